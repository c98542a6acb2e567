"""Signs and verifies policy documents, from the specification alone, with libraries of Python.

document.py verify FILE PUBLIC_KEY_PEM   prints the document digest, or what does not hold (exit code 1)
document.py sign FILE PRIVATE_KEY_PEM KEY_ID   prints the signed document; makes the key, and PRIVATE_KEY_PEM.pub, if absent
"""

import json
import os
import sys

import blake3
import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

TYPE = b"application/vnd.sekuire.policy.v1+json"
UNSEALED = ("document_signature", "co_signatures", "signing_public_key")
NOT_IN_DIGEST = UNSEALED + ("signature", "signing_key_id", "updated_at", "activated_at")


def without(document, members):
    return {name: value for name, value in document.items() if name not in members}


def content_hash(document):
    return blake3.blake3(rfc8785.dumps(document["content"])).hexdigest()


def signature_input(document):
    return f"{document['policy_id']}:{document['version']}:{document['hash']}".encode()


def sealed_input(document):
    body = rfc8785.dumps(without(document, UNSEALED))
    return b"DSSEv1 %d %s %d %s" % (len(TYPE), TYPE, len(body), body)


def verify(document, public_key):
    if document["hash"] != content_hash(document):
        sys.exit("hash")
    inputs = {"signature": signature_input(document), "document_signature": sealed_input(document)}
    for member, message in inputs.items():
        try:
            public_key.verify(bytes.fromhex(document[member]), message)
        except InvalidSignature:
            sys.exit(member)
    print(blake3.blake3(rfc8785.dumps(without(document, NOT_IN_DIGEST))).hexdigest())


def sign(document, key, key_id):
    document["signing_key_id"] = key_id
    document["hash"] = content_hash(document)
    document["signature"] = key.sign(signature_input(document)).hex()
    document["document_signature"] = key.sign(sealed_input(document)).hex()
    json.dump(document, sys.stdout, ensure_ascii=False, indent=1)


def private_key(path):
    if os.path.exists(path):
        with open(path, "rb") as file:
            return serialization.load_pem_private_key(file.read(), None)
    key = Ed25519PrivateKey.generate()
    pem = serialization.Encoding.PEM
    with open(path, "wb") as file:
        plain = serialization.NoEncryption()
        file.write(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    with open(path + ".pub", "wb") as file:
        public = key.public_key()
        file.write(public.public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return key


def main(command, file, key, *rest):
    with open(file, encoding="utf-8") as source:
        document = json.load(source)
    if command == "verify":
        with open(key, "rb") as source:
            verify(document, serialization.load_pem_public_key(source.read()))
    else:
        sign(document, private_key(key), *rest)


main(*sys.argv[1:])
