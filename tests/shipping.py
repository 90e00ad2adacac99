"""How each publisher packs a dataset, done to a folder and offered by a local server."""

import hashlib
import io
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import quote

import py7zr
from publishers import Publisher

from pipeline.fetch.download import git_blob
from pipeline.manifest import Manifest, load_all
from pipeline.sources import RemoteFile

Packed = dict[str, bytes]


def files_of(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def zipped(folder: Path, names: Iterable[str], root: str = "") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.write(folder / name, root + name)
    return out.getvalue()


def tarred(folder: Path, names: Iterable[str], root: str = "", link: str = "") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name in names:
            archive.add(folder / name, root + name)
        if link:
            member = tarfile.TarInfo(root + link)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(member)
    return out.getvalue()


def icbhi(folder: Path, names: list[str], _: Path) -> Packed:
    sounds = [n for n in names if n.startswith("ICBHI_final_database/")]
    tables = {n: (folder / n).read_bytes() for n in names if n.endswith(".txt") and "/" not in n}
    # one copy is known to hold its folder twice
    archive = zipped(folder, sounds, "ICBHI_final_database/")
    return {"ICBHI_final_database.zip": archive} | tables


def hflung(folder: Path, names: list[str], work: Path) -> Packed:
    volumes: Packed = {}
    for side in ("train", "test"):
        made = work / f"{side}.7z"
        with py7zr.SevenZipFile(made, "w") as archive:
            for name in names:
                if name.startswith(f"{side}/"):
                    archive.write(folder / name, name)
        data = made.read_bytes()
        cut = len(data) // 2
        volumes |= {f"{side}.7z.001": data[:cut], f"{side}.7z.002": data[cut:]}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in volumes.items():
            archive.writestr(f"HF_Lung_V1-2a77d37/{name}", data)
    return {"HF_Lung_V1.zip": out.getvalue()}


def uk_covid19(folder: Path, names: list[str], work: Path) -> Packed:
    command = ["zip", "-q", "-s", "256k", str(work / "covid_data.zip"), *names]
    subprocess.run([c for c in command if not c.endswith(".csv")], cwd=folder, check=True)
    volumes = {p.name: p.read_bytes() for p in work.glob("covid_data.z*")}
    return volumes | {n: (folder / n).read_bytes() for n in names if n.endswith(".csv")}


def circor(folder: Path, names: list[str], _: Path) -> Packed:
    version = "the-circor-digiscope-phonocardiogram-dataset-1.0.3"
    if (folder / version).is_dir():
        folder, names = folder / version, files_of(folder / version)
    listed = [n for n in names if n.startswith("training_data") or n == "RECORDS"]
    sums = "".join(
        f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()} {n}\n" for n in listed
    ).encode()
    loose = {f"files/{n}": (folder / n).read_bytes() for n in listed}
    archive = zipped(folder, listed, f"{version}/")
    return {f"{version}.zip": archive, "SHA256SUMS.txt": sums} | loose


def sprsound(folder: Path, names: list[str], _: Path) -> Packed:
    # a repository may hold links where nobody looks
    packed = tarred(folder, names, "SPRSound-874eeb8/", link="Classification/latest")
    return {"SPRSound.tar.gz": packed}


def coswara(folder: Path, names: list[str], _: Path) -> Packed:
    packed = {n: (folder / n).read_bytes() for n in names if not n.startswith("Extracted_data/")}
    root = folder / "Extracted_data"
    for date in sorted(p.name for p in root.iterdir() if p.is_dir()):
        data = tarred(root, [n for n in files_of(root) if n.startswith(f"{date}/")])
        cut = len(data) // 2
        packed |= {f"{date}/{date}.tar.gz.aa": data[:cut], f"{date}/{date}.tar.gz.ab": data[cut:]}
    return packed


def one_zip(name: str) -> Callable[[Path, list[str], Path], Packed]:
    def pack(folder: Path, names: list[str], _: Path) -> Packed:
        return {name: zipped(folder, names)}

    return pack


def zip_beside(name: str, *beside: str) -> Callable[[Path, list[str], Path], Packed]:
    def pack(folder: Path, names: list[str], _: Path) -> Packed:
        inside = [n for n in names if n not in beside]
        return {name: zipped(folder, inside)} | {
            n: (folder / n).read_bytes() for n in beside if (folder / n).is_file()
        }

    return pack


PACK: dict[str, Callable[[Path, list[str], Path], Packed]] = {
    "icbhi": icbhi,
    "hflung": hflung,
    "uk_covid19": uk_covid19,
    "coughvid": one_zip("public_dataset.zip"),
    "circor": circor,
    "sprsound": sprsound,
    "zchsound": one_zip("ZCHSound.zip"),
    "coswara": coswara,
    "kauh": zip_beside("AudioFiles.zip", "Data annotation.xlsx"),
    "respiratory_tr": zip_beside("RespiratoryDatabase@TR.zip", "Labels.xlsx"),
}


def ship(dataset: str, folder: Path, work: Path, server: Publisher, sums: Path) -> Manifest:
    """Pack a folder as its publisher does, offer it, and point the manifest at it.

    Args:
        dataset: Its id.
        folder: The unpacked archive.
        work: For what has to be made on disk.
        server: Offers the packed files under their names.
        sums: Folder for a checksum list that the manifest keeps beside itself.

    Returns:
        The dataset's own manifest, with this server's URLs, sizes and checksums.
    """
    manifest = load_all()[dataset]
    packed = PACK[dataset](folder, files_of(folder), work)
    urls = {
        name: server.offer(quote(name), data, etag=f'"{n}"')
        for n, (name, data) in enumerate(packed.items())
    }
    files: list[RemoteFile] = []
    for name, data in packed.items():
        known = next((f for f in manifest.files if f.name == name), None)
        spanned = dataset == "uk_covid19" and name.startswith("covid_data.z")
        if known is None and not spanned:
            continue
        values = {"name": name, "urls": [urls[name]], "bytes": len(data)}
        if known and known.generated:
            values["generated"] = True
        elif dataset != "zchsound":  # one without any checksum: locked at first download
            values["sha256"] = hashlib.sha256(data).hexdigest()
        files.append(RemoteFile.model_validate(values))
    tree = manifest.tree
    if tree and tree.hash == "git":
        lines: list[str] = []
        for name, data in packed.items():
            (work / "blob").write_bytes(data)
            lines.append(f"{git_blob(work / 'blob')}  {name}\n")
        (sums / tree.sums).write_text("".join(lines))
    base = f"{server.base}/" + ("files/" if dataset == "circor" else "")
    return manifest.model_copy(
        update={"files": files, "tree": tree and tree.model_copy(update={"base": base})}
    )
