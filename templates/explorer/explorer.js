"use strict";
/* Keys, playhead, and the parts of a page that take longer. Everything else works without it.
   Loaded before anything is drawn, so that no key is lost on a page that can be seen. */

const typing = (e) => e.target.matches("input, select, textarea, [contenteditable]");
const go = (selector) => { const a = document.querySelector(selector); if (a) a.click(); return Boolean(a); };

function walk(step) {
  const links = [...document.querySelectorAll(".rows th a")];
  const next = links[Math.max(0, links.indexOf(document.activeElement) + step)];
  if (next) next.focus(); else go(step > 0 ? "a[rel=next]" : "a[rel=prev]");
}

function play(sound) {
  const audio = sound.querySelector("audio");
  if (audio.paused) audio.play(); else audio.pause();
}

document.addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey) return;
  const sound = document.querySelector(".sound");
  if (e.key === "Escape" && typing(e)) e.target.blur();
  if (typing(e)) return;
  const list = document.querySelector(".rows");
  if (e.key === "j" || e.key === "n") list ? walk(1) : go("a[rel=next]");
  else if (e.key === "k" || e.key === "p") list ? walk(-1) : go("a[rel=prev]");
  else if (e.key === "l") go("#back");
  else if (e.key === "/") (document.querySelector("input[name=q]") || document.querySelector("input[name=what]")).focus();
  else if (e.key === "m") (document.querySelector(".mark textarea") || document.querySelector(".mark button"))?.focus();
  else if (e.key === " " && sound && !e.target.matches("button, a, audio, summary")) play(sound);
  else return;
  e.preventDefault();
});

document.addEventListener("DOMContentLoaded", () => {
  for (const sound of document.querySelectorAll(".sound")) {
    const audio = sound.querySelector("audio"), head = sound.querySelector(".head"), canvas = sound.querySelector(".canvas");
    const seconds = Number(sound.dataset.seconds);
    const show = () => {
      head.hidden = false;
      head.style.left = `${100 * Math.min(1, audio.currentTime / seconds)}%`;
      if (!audio.paused) requestAnimationFrame(show);
    };
    for (const event of ["play", "seeked", "pause"]) audio.addEventListener(event, show);
    canvas.addEventListener("click", (e) => {
      const box = canvas.getBoundingClientRect();
      audio.currentTime = seconds * (e.clientX - box.left) / box.width;
    });
  }

  for (const place of document.querySelectorAll("[data-load]")) {
    fetch(place.dataset.load)
      .then((answer) => answer.text())
      .then((text) => { place.innerHTML = text; })  // our own template, which escapes all metadata
      .catch(() => {});  // the link that stands there still works
  }

  /* A choice filters at once; typed values wait for Enter. */
  for (const choice of document.querySelectorAll(".filters select, .filters [type=checkbox]")) {
    choice.addEventListener("change", () => choice.form.requestSubmit());
  }
  document.querySelector(".filters")?.addEventListener("submit", (e) => {
    for (const field of e.target.elements) if (!field.value) field.disabled = true;  // a short address
  });
});
