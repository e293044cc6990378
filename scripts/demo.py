"""Forgets one digit from a ResNet18 and a vision transformer, and shows before and after on
held-out images beside models that were retrained without the digit.

Needs nothing but Python itself. New models and reports are left in target/demo/.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIGITS = ROOT / "fixtures" / "digits"
OUT = ROOT / "target" / "demo"
MODELS = {"ResNet18": ("resnet18_torchscript", "resnet18_retrained"), "ViT": ("vit_torchscript", "vit_retrained")}


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def run(binary: Path, *arguments: str, show: bool = False) -> str:
    """The standard output of a command, which must end with exit code 0."""
    if show:
        print("$ onnx-unlearn", " ".join(arguments), flush=True)
    done = subprocess.run([binary, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"onnx-unlearn {arguments[0]} ended with exit code {done.returncode}")
    return done.stdout


def accuracies(binary: Path, original: Path, other: Path) -> dict[str, tuple[float, float]]:
    """Accuracy of both models on held-out images of the forgotten digit and of the rest."""
    sets = ["--forget", shown(DIGITS / "test_forget.npz"), "--retain", shown(DIGITS / "test_retain.npz")]
    # A retrained model agrees less than a dampened one; only its accuracy is asked for here.
    text = run(binary, "validate", shown(original), shown(other), *sets, "--min-retained-agreement", "0", "--json", "-q")
    validation = json.loads(text)["validation"]
    return {name: (found["accuracy_before"], found["accuracy_after"]) for name, found in validation.items()}


def main() -> None:
    binary = ROOT / sys.argv[1]
    OUT.mkdir(parents=True, exist_ok=True)
    rows = []
    for title, (name, retrained) in MODELS.items():
        original, new = ROOT / "models" / f"{name}.onnx", OUT / f"{name}.onnx"
        sets = ["--forget", shown(DIGITS / "forget.npz"), "--retain", shown(DIGITS / "retain.npz")]
        target = ["-o", shown(new), "--report", shown(OUT / name)]
        print(run(binary, "forget", shown(original), *sets, *target, show=True))
        unlearned = accuracies(binary, original, new)
        anew = accuracies(binary, original, ROOT / "models" / f"{retrained}.onnx")
        for label, found in [("original", 0), ("unlearned", 1)]:
            rows.append((title, label, unlearned["forget"][found], unlearned["retain"][found]))
        rows.append((title, "retrained without it", anew["forget"][1], anew["retain"][1]))
    print("accuracy on held-out images    digit 3   other digits")
    for title, label, forgotten, rest in rows:
        print(f"{title:<9} {label:<20} {forgotten:>8.3f} {rest:>14.3f}")
    print(f"\nnew models and reports: {shown(OUT)}/")


if __name__ == "__main__":
    main()
