"""Any split of any dataset -> a certificate: who is on two sides, what else gives labels away."""
