#!/usr/bin/env python3
"""sbom.py SBOM.json Cargo.lock: checks a software bill of materials (CycloneDX) for what its readers need.

Every component has a name, a version, a package URL, a licence and, if it is of a registry, the SHA-256 that Cargo.lock has for it.
"""
import json
import sys
import tomllib

with open(sys.argv[1], encoding="utf-8") as file:
    sbom = json.load(file)
with open(sys.argv[2], "rb") as file:
    locked = {(p["name"], p["version"]): p.get("checksum") for p in tomllib.load(file)["package"]}

faults = []
if sbom.get("bomFormat") != "CycloneDX":
    faults.append(f"bomFormat is {sbom.get('bomFormat')}; expected CycloneDX")
own = sbom.get("metadata", {}).get("component", {})
if own.get("name") != "sekuire-policy-controller" or not own.get("version"):
    faults.append("metadata.component does not say what this is the bill of")
for component in sbom.get("components", []):
    name = (component.get("name"), component.get("version"))
    if name not in locked:
        faults.append(f"{name}: not in Cargo.lock")
        continue
    if not component.get("purl", "").startswith(f"pkg:cargo/{name[0]}@{name[1]}"):
        faults.append(f"{name}: purl is {component.get('purl')}")
    if not component.get("licenses"):
        faults.append(f"{name}: no licence")
    hashes = {entry["alg"]: entry["content"] for entry in component.get("hashes", [])}
    if hashes.get("SHA-256") != locked[name]:
        faults.append(f"{name}: SHA-256 is {hashes.get('SHA-256')}; Cargo.lock says {locked[name]}")
for name in ["ed25519-dalek", "kube", "rustls", "git2"]:
    if name not in {component.get("name") for component in sbom.get("components", [])}:
        faults.append(f"{name} is missing, which this program is made of")
if faults:
    sys.exit("\n".join(faults))
print(f"{len(sbom['components'])} components")
