#!/usr/bin/env python3
"""Makes an image of the last stage of a Dockerfile, without a Docker daemon: the same bytes each time.

pack.py DOCKERFILE --name NAME:TAG --from STAGE=FOLDER [--arg NAME=VALUE] [--arch amd64] OUT.tar

The last stage must be `FROM scratch` and consist of what is known below; anything else is refused, so that the image is
never less than what the Dockerfile says. FOLDER is what `COPY --from=STAGE` copies from. Times are SOURCE_DATE_EPOCH, or
1970. The archive is an OCI layout that also has Docker's manifest.json: `ctr images import`, `docker load` and
`skopeo copy oci-archive:` or `docker-archive:` read it.

Nothing but the standard library: it runs in CI before anything is installed.
"""
import argparse
import gzip
import hashlib
import io
import json
import os
import re
import shlex
import stat
import sys
import tarfile
from datetime import datetime, timezone

OCI = "application/vnd.oci.image."
MiB = 1 << 20


def fail(message):
    sys.exit(f"pack.py: {message}")


def last_stage(text):
    """(instruction, rest) of all lines after the last FROM, which must be `scratch`."""
    lines = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n?", "", text)).splitlines()
    steps = [line.strip().split(None, 1) for line in lines if line.strip()]
    start = max((n for n, step in enumerate(steps) if step[0].upper() == "FROM"), default=None)
    if start is None or steps[start][1:] != ["scratch"]:
        fail("the last stage must be `FROM scratch`")
    return [(step[0].upper(), step[1].strip()) for step in steps[start + 1 :]]


class Image:
    def __init__(self, stages, arguments, mtime):
        self.stages, self.given, self.mtime = stages, arguments, mtime
        self.arguments, self.files, self.config = {}, {}, {}
        self.environment = {"PATH": "/"}

    def fill(self, text):
        """Replaces ${NAME}."""

        def value(match):
            name = match[1] or match[2]
            return self.arguments[name] if name in self.arguments else fail(f"${name} is no ARG of the last stage")

        return re.sub(r"\$(?:\{(\w+)\}|(\w+))", value, text)

    def run(self, instruction, rest):
        known = {
            "ARG": self.arg, "LABEL": self.label, "ENV": self.env, "COPY": self.copy, "EXPOSE": self.expose,
            "USER": lambda rest: self.config.update(User=self.fill(rest)),
            "WORKDIR": lambda rest: self.config.update(WorkingDir=self.fill(rest)),
            "ENTRYPOINT": lambda rest: self.config.update(Entrypoint=json.loads(rest)),
            "CMD": lambda rest: self.config.update(Cmd=json.loads(rest)),
        }  # fmt: skip
        if instruction not in known:
            fail(f"{instruction} is not known here; accepted: {', '.join(known)}")
        known[instruction](rest)

    def arg(self, rest):
        name, _, default = rest.partition("=")
        self.arguments[name] = self.given.get(name, default)

    def pairs(self, rest):
        for word in shlex.split(rest):
            name, equals, value = word.partition("=")
            if not equals:
                fail(f"expected NAME=VALUE, found {word}")
            yield name, self.fill(value)

    def label(self, rest):
        self.config.setdefault("Labels", {}).update(self.pairs(rest))

    def env(self, rest):
        self.environment.update(self.pairs(rest))
        self.config["Env"] = [f"{name}={value}" for name, value in self.environment.items()]

    def expose(self, rest):
        ports = self.config.setdefault("ExposedPorts", {})
        ports.update({port if "/" in port else f"{port}/tcp": {} for port in rest.split()})

    def copy(self, rest):
        words = rest.split()
        flags = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
        paths = [word for word in words if not word.startswith("--")]
        unknown = flags.keys() - {"from", "chown"}
        if unknown or len(paths) != 2 or flags.get("from") not in self.stages:
            fail(f"COPY {rest}: expected --from=STAGE [--chown=UID:GID] SOURCE DESTINATION; give --from STAGE=FOLDER")
        owner = [int(part) for part in flags.get("chown", "0:0").split(":")]
        source = os.path.join(self.stages[flags["from"]], paths[0].strip("/"))
        self.add(source, paths[1].strip("/"), owner)

    def add(self, source, dest, owner):
        """A file, or what is in a folder; of the destination's own folders those that are missing."""
        for end in [n for n, letter in enumerate(dest) if letter == "/"]:
            self.files.setdefault(dest[:end], (None, tarfile.DIRTYPE, 0o755, (0, 0)))
        status = os.lstat(source)
        mode = stat.S_IMODE(status.st_mode)
        if stat.S_ISDIR(status.st_mode):
            if dest:
                self.files[dest] = (None, tarfile.DIRTYPE, mode, owner)
            for name in os.listdir(source):
                self.add(os.path.join(source, name), f"{dest}/{name}".strip("/"), owner)
        elif stat.S_ISLNK(status.st_mode):
            self.files[dest] = (os.readlink(source), tarfile.SYMTYPE, 0o777, owner)
        elif stat.S_ISREG(status.st_mode):
            self.files[dest] = (source, tarfile.REGTYPE, mode, owner)
        else:
            fail(f"{source} is no file, folder or link")

    def layer(self):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for name in sorted(self.files):
                source, kind, mode, (uid, gid) = self.files[name]
                entry = tarfile.TarInfo(name)
                entry.type, entry.mode, entry.mtime, entry.uid, entry.gid = kind, mode, self.mtime, uid, gid
                if kind == tarfile.REGTYPE:
                    entry.size = os.path.getsize(source)
                    with open(source, "rb") as file:
                        tar.addfile(entry, file)
                else:
                    entry.linkname = source or ""
                    tar.addfile(entry)
        return out.getvalue()


def archive(image, name, architecture, out):
    blobs = {}

    def blob(data):
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"digest": f"sha256:{digest}", "size": len(data)}

    layer = image.layer()
    packed = blob(gzip.compress(layer, 9, mtime=0))
    created = datetime.fromtimestamp(image.mtime, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    config = blob(as_json({
        "created": created,
        "architecture": architecture,
        "os": "linux",
        "config": image.config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        "history": [{"created": created, "created_by": "Dockerfile, by pack.py"}],
    }))  # fmt: skip
    manifest = blob(as_json({
        "schemaVersion": 2,
        "mediaType": OCI + "manifest.v1+json",
        "config": {"mediaType": OCI + "config.v1+json", **config},
        "layers": [{"mediaType": OCI + "layer.v1.tar+gzip", **packed}],
    }))  # fmt: skip
    tag = name.rsplit(":", 1)[1]
    names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag}
    index = {
        "schemaVersion": 2,
        "mediaType": OCI + "index.v1+json",
        "manifests": [{
            "mediaType": OCI + "manifest.v1+json", **manifest,
            "platform": {"architecture": architecture, "os": "linux"}, "annotations": names,
        }],
    }  # fmt: skip
    path = lambda descriptor: descriptor["digest"].replace("sha256:", "blobs/sha256/")  # noqa: E731
    docker = [{"Config": path(config), "RepoTags": [name], "Layers": [path(packed)]}]
    files = {
        **blobs,
        "index.json": as_json(index),
        "manifest.json": as_json(docker),
        "oci-layout": as_json({"imageLayoutVersion": "1.0.0"}),
    }
    with tarfile.open(out, "w", format=tarfile.GNU_FORMAT) as tar:
        for file in sorted(files):
            entry = tarfile.TarInfo(file)
            entry.mode, entry.size, entry.mtime = 0o644, len(files[file]), image.mtime
            tar.addfile(entry, io.BytesIO(files[file]))
    return manifest["digest"], packed["size"] + config["size"] + manifest["size"]


def as_json(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pair = lambda text: tuple(text.split("=", 1))  # noqa: E731
    parser.add_argument("dockerfile")
    parser.add_argument("out")
    parser.add_argument("--name", required=True, help="name and tag")
    parser.add_argument("--from", dest="stages", type=pair, action="append", default=[], metavar="STAGE=FOLDER")
    parser.add_argument("--arg", dest="arguments", type=pair, action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--arch", default="amd64", help="as Docker calls it")
    parser.add_argument("--limit", type=int, metavar="MIB", help="fail if the image is larger, compressed")
    given = parser.parse_args()
    with open(given.dockerfile, encoding="utf-8") as file:
        steps = last_stage(file.read())
    image = Image(dict(given.stages), dict(given.arguments), int(os.environ.get("SOURCE_DATE_EPOCH", "0")))
    for instruction, rest in steps:
        image.run(instruction, rest)
    digest, size = archive(image, given.name, given.arch, given.out)
    print(f"{given.name} {digest} {size / MiB:.1f} MiB compressed")
    if given.limit and size > given.limit * MiB:
        fail(f"the image has {size} bytes, compressed; the limit is {given.limit} MiB")


main()
