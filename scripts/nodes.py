"""Fetches the node tests of the ONNX package: python3 scripts/nodes.py FOLDER

They come from the last wheel that holds them: from 1.23 on, the package holds the program that makes them alone.
"""

import hashlib
import pathlib
import subprocess
import sys
import tempfile
import zipfile

VERSION = '1.22.0'
SHA256 = '1d0a2bdb15eb2b3cb65c438f3423d9620d14fdce32f92380e6bb1b2e09568ef5'
INSIDE = 'onnx/backend/test/data/node/'


def main(folder):
    with tempfile.TemporaryDirectory() as download:
        command = [sys.executable, '-m', 'pip', 'download', '--quiet', '--disable-pip-version-check', '--no-deps']
        command += ['--only-binary=:all:', '--implementation', 'cp', '--python-version', '311', '--abi', 'cp311']
        command += ['--platform', 'manylinux_2_28_x86_64', '--dest', download, f'onnx=={VERSION}']
        subprocess.run(command, check=True)
        (wheel,) = pathlib.Path(download).iterdir()
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if found != SHA256:
            sys.exit(f'{wheel.name} has SHA-256 {found}, expected {SHA256}')
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.infolist():
                if entry.filename.startswith(INSIDE) and not entry.is_dir():
                    target = folder / entry.filename.removeprefix(INSIDE)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(archive.read(entry))


if __name__ == '__main__':
    main(pathlib.Path(sys.argv[1]))
