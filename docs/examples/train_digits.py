"""Train the two handwritten-digit networks that ship with forwardpass, in plain NumPy.

    python docs/examples/train_digits.py              # train, save to src/forwardpass/data
    python docs/examples/train_digits.py --validate   # judge by images held back from training, save nothing

Data: scikit-learn's `load_digits`, 1,797 images of 8 x 8 pixels with values 0 to 16. `split` sets 359 of them
aside by a fixed seed, 36 of each class or nearly so. They never take part in training; choices such as layer
sizes and epochs were made with `--validate`, which takes its images from the other 1,438. The data does
not say who wrote what, so the split cannot be by writer: expect less on a hand that is new.

The networks are channels-last, as the builder of forwardpass is. Each layer below has `forward` and
`backward`; a convolution is a matrix product over the patches of its input ("im2col").
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits

F32 = npt.NDArray[np.float32]
Int = npt.NDArray[np.int64]

DATA = Path(__file__).resolve().parents[2] / "src" / "forwardpass" / "data"
PIXEL_MAX = 16.0
HELD_OUT = 0.2
SPLIT_SEED = 2024


class Layer:
    """A step of a network: `weights` by name, and after `backward` their gradients in `gradients`."""

    def __init__(self) -> None:
        self.weights: dict[str, F32] = {}
        self.gradients: dict[str, F32] = {}

    def forward(self, x: F32) -> F32:
        raise NotImplementedError

    def backward(self, dy: F32) -> F32:
        raise NotImplementedError


class Dense(Layer):
    """`y = x @ kernel + bias`, kernel [inputs, units]."""

    def __init__(self, inputs: int, units: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.weights = {
            "kernel": he_normal((inputs, units), inputs, rng),
            "bias": np.zeros(units, np.float32),
        }

    def forward(self, x: F32) -> F32:
        self.x = x
        return x @ self.weights["kernel"] + self.weights["bias"]

    def backward(self, dy: F32) -> F32:
        self.gradients = {"kernel": self.x.T @ dy, "bias": dy.sum(axis=0)}
        return dy @ self.weights["kernel"].T


class Conv3x3(Layer):
    """3 x 3 convolution with zero padding that keeps height and width, kernel [3, 3, channels, filters]."""

    def __init__(self, channels: int, filters: int, rng: np.random.Generator) -> None:
        super().__init__()
        kernel = he_normal((3, 3, channels, filters), 9 * channels, rng)
        self.weights = {"kernel": kernel, "bias": np.zeros(filters, np.float32)}

    def forward(self, x: F32) -> F32:
        n, h, w, c = x.shape
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        shifted = [padded[:, i : i + h, j : j + w] for i in range(3) for j in range(3)]
        self.patches = np.concatenate(shifted, axis=3).reshape(n * h * w, 9 * c)
        self.shape = x.shape
        kernel = self.weights["kernel"]
        y = self.patches @ kernel.reshape(9 * c, -1) + self.weights["bias"]
        return y.reshape(n, h, w, -1)

    def backward(self, dy: F32) -> F32:
        n, h, w, c = self.shape
        kernel = self.weights["kernel"]
        flat = dy.reshape(n * h * w, -1)
        self.gradients = {"kernel": (self.patches.T @ flat).reshape(kernel.shape), "bias": flat.sum(axis=0)}
        d_patches = (flat @ kernel.reshape(9 * c, -1).T).reshape(n, h, w, 9, c)
        d_padded = np.zeros((n, h + 2, w + 2, c), np.float32)
        for k in range(9):
            i, j = divmod(k, 3)
            d_padded[:, i : i + h, j : j + w] += d_patches[:, :, :, k]
        return d_padded[:, 1:-1, 1:-1]


class Relu(Layer):
    def forward(self, x: F32) -> F32:
        self.positive = x > 0
        return np.where(self.positive, x, np.float32(0))

    def backward(self, dy: F32) -> F32:
        return dy * self.positive


class MaxPool2x2(Layer):
    """The maximum of each 2 x 2 block; equal maxima share the gradient."""

    def forward(self, x: F32) -> F32:
        n, h, w, c = x.shape
        blocks = x.reshape(n, h // 2, 2, w // 2, 2, c)
        y: F32 = blocks.max(axis=(2, 4))
        winners = (blocks == y[:, :, None, :, None]).astype(np.float32)
        self.share = winners / winners.sum(axis=(2, 4), keepdims=True)
        return y

    def backward(self, dy: F32) -> F32:
        n, h, w, c = dy.shape
        return (self.share * dy[:, :, None, :, None]).reshape(n, 2 * h, 2 * w, c)


class Flatten(Layer):
    def forward(self, x: F32) -> F32:
        self.shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, dy: F32) -> F32:
        return dy.reshape(self.shape)


class Network:
    """Named layers in a row, ending in the scores (logits) of the ten classes."""

    def __init__(self, layers: dict[str, Layer]) -> None:
        self.layers = layers

    def forward(self, x: F32) -> F32:
        for layer in self.layers.values():
            x = layer.forward(x)
        return x

    def backward(self, dy: F32) -> None:
        for layer in reversed(self.layers.values()):
            dy = layer.backward(dy)

    def weights(self) -> dict[str, F32]:
        """Name of the layer / name of the weight -> the array that training updates in place."""
        return {f"{k}/{w}": a for k, layer in self.layers.items() for w, a in layer.weights.items()}

    def gradients(self) -> dict[str, F32]:
        return {f"{k}/{w}": a for k, layer in self.layers.items() for w, a in layer.gradients.items()}

    def accuracy(self, x: F32, labels: Int) -> float:
        return float(np.mean(self.forward(x).argmax(axis=1) == labels))


class Adam:
    """Adam (Kingma and Ba, 2015) with decoupled weight decay (Loshchilov and Hutter, 2019) on the kernels."""

    def __init__(self, weights: dict[str, F32], decay: float) -> None:
        self.weights, self.decay, self.t = weights, decay, 0
        self.mean = {k: np.zeros_like(w) for k, w in weights.items()}
        self.square = {k: np.zeros_like(w) for k, w in weights.items()}

    def step(self, gradients: dict[str, F32], rate: float, b1: float = 0.9, b2: float = 0.999) -> None:
        self.t += 1
        for k, w in self.weights.items():
            self.mean[k] += (1 - b1) * (gradients[k] - self.mean[k])
            self.square[k] += (1 - b2) * (gradients[k] ** 2 - self.square[k])
            mean = self.mean[k] / (1 - b1**self.t)
            square = self.square[k] / (1 - b2**self.t)
            w -= rate * (mean / (np.sqrt(square) + 1e-8) + (self.decay * w if w.ndim > 1 else 0))


def he_normal(shape: tuple[int, ...], inputs: int, rng: np.random.Generator) -> F32:
    """Start values for a layer before a Relu: normal, variance 2 / inputs (He et al., 2015)."""
    return (rng.standard_normal(shape) * np.sqrt(2 / inputs)).astype(np.float32)


def cnn(rng: np.random.Generator) -> Network:
    """Takes [N, 8, 8, 1]."""
    return Network(
        {
            "conv1": Conv3x3(1, 16, rng),
            "relu1": Relu(),
            "conv2": Conv3x3(16, 32, rng),
            "relu2": Relu(),
            "pool1": MaxPool2x2(),
            "conv3": Conv3x3(32, 32, rng),
            "relu3": Relu(),
            "pool2": MaxPool2x2(),
            "flatten": Flatten(),
            "dense1": Dense(128, 64, rng),
            "relu4": Relu(),
            "scores": Dense(64, 10, rng),
        }
    )


def mlp(rng: np.random.Generator) -> Network:
    """Takes [N, 64]."""
    return Network(
        {
            "dense1": Dense(64, 128, rng),
            "relu1": Relu(),
            "dense2": Dense(128, 64, rng),
            "relu2": Relu(),
            "scores": Dense(64, 10, rng),
        }
    )


def cross_entropy(scores: F32, labels: Int) -> tuple[float, F32]:
    """Mean loss of the softmax of `scores` [N, classes], and its gradient with respect to them."""
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    loss = -float(np.mean(np.log(p[rows, labels] + 1e-12)))
    p[rows, labels] -= 1
    return loss, p / np.float32(len(labels))


def shift(images: F32, rng: np.random.Generator) -> F32:
    """Each image [N, 8, 8, 1] moved by -1, 0 or 1 pixels down and across; zeros come in at the border."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    down, across = rng.choice([0, 1, 1, 2], size=(2, len(images)))
    rows = down[:, None, None] + np.arange(8)[None, :, None]
    columns = across[:, None, None] + np.arange(8)[None, None, :]
    return padded[np.arange(len(images))[:, None, None], rows, columns]


def train(network: Network, images: F32, labels: Int, *, flat: bool, epochs: int, rng: np.random.Generator) -> None:
    """Adam on shifted images [N, 8, 8, 1] in 0..1; the step size falls as half a cosine from `peak` to 0."""
    peak, batch = 3e-3, 64
    adam = Adam(network.weights(), decay=1e-2)
    start, steps, step = time.perf_counter(), epochs * -(-len(images) // batch), 0
    for epoch in range(1, epochs + 1):
        losses = []
        order = rng.permutation(len(images))
        for first in range(0, len(order), batch):
            rows = order[first : first + batch]
            x = shift(images[rows], rng)
            loss, d_scores = cross_entropy(network.forward(x.reshape(len(x), 64) if flat else x), labels[rows])
            network.backward(d_scores)
            adam.step(network.gradients(), peak * 0.5 * (1 + np.cos(np.pi * step / steps)))
            losses.append(loss)
            step += 1
        if epoch % 10 == 0 or epoch == epochs:
            seconds = time.perf_counter() - start
            print(f"  epoch {epoch:3d}/{epochs}  loss {np.mean(losses):.4f}  {seconds:5.1f} s", flush=True)


def split(labels: Int, fraction: float, seed: int) -> tuple[Int, Int]:
    """Indices (rest, held out): `fraction` of each class, drawn by `seed`."""
    rng = np.random.default_rng(seed)
    held: list[int] = []
    for digit in range(10):
        members = rng.permutation(np.flatnonzero(labels == digit))
        held.extend(members[: round(fraction * len(members))].tolist())
    held_out = np.sort(np.array(held))
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def builder_network(kind: str, weights: dict[str, F32], name: str) -> Any:
    """The trained network as a forwardpass graph that takes pixels 0..16 and gives probabilities."""
    from forwardpass.builder import Conv2D, Dense, Flatten, Input, MaxPool2D, Sequential

    if kind == "cnn":
        layers = [
            Input((8, 8, 1), name="pixels"),
            Conv2D(16, 3, padding="same", activation="relu", name="conv1"),
            Conv2D(32, 3, padding="same", activation="relu", name="conv2"),
            MaxPool2D(2, name="pool1"),
            Conv2D(32, 3, padding="same", activation="relu", name="conv3"),
            MaxPool2D(2, name="pool2"),
            Flatten(name="flatten"),
            Dense(64, activation="relu", name="dense1"),
            Dense(10, activation="softmax", name="scores"),
        ]
    else:
        layers = [
            Input((64,), name="pixels"),
            Dense(128, activation="relu", name="dense1"),
            Dense(64, activation="relu", name="dense2"),
            Dense(10, activation="softmax", name="scores"),
        ]
    network = Sequential(layers, name=name)
    first = next(iter(weights))
    # Training saw pixels / 16. Division by a power of two is exact, so the first kernel takes it exactly.
    network.set_weights({**weights, first: weights[first] / np.float32(PIXEL_MAX)})
    return network.graph()


def save(kind: str, network: Network, accuracy: float, images: int, folder: Path) -> None:
    import forwardpass as fp

    graph = builder_network(kind, network.weights(), f"digits_{kind}")
    graph.metadata.update(
        labels=json.dumps(list("0123456789")),
        pixel_max=f"{PIXEL_MAX:g}",
        description="Handwritten digits, 8 x 8 pixels with values 0 (paper) to 16 (ink), one of ten classes",
        accuracy=f"{accuracy:.4f} on {images} images that took no part in training",
        training="docs/examples/train_digits.py",
        data="scikit-learn load_digits: test part of 'Optical Recognition of Handwritten Digits' "
        "(E. Alpaydin, C. Kaynak, 1998, UCI Machine Learning Repository, doi:10.24432/C50P49), CC BY 4.0",
        license="Apache-2.0 (weights)",
    )
    path = folder / f"digits_{kind}.npz"
    fp.save(graph, path, optimized=True)
    print(f"  saved {path} ({path.stat().st_size:,} bytes)")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the digit networks that ship with forwardpass.")
    parser.add_argument("--output", type=Path, default=DATA, help="folder for the .npz files (%(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="of start values, order and shifts (%(default)s)")
    parser.add_argument("--epochs", type=int, default=150, help="passes over the training images (%(default)s)")
    parser.add_argument("--validate", action="store_true", help="judge on training images held back; save nothing")
    args = parser.parse_args()

    digits = load_digits()
    images = digits.images.astype(np.float32)[..., None] / np.float32(PIXEL_MAX)
    labels = digits.target.astype(np.int64)
    known, judged = split(labels, HELD_OUT, SPLIT_SEED)
    if args.validate:
        inner, back = split(labels[known], HELD_OUT, args.seed)
        known, judged = known[inner], known[back]
    print(f"{len(known)} images to train on, {len(judged)} to judge by")
    if not args.validate:
        args.output.mkdir(parents=True, exist_ok=True)
        test = (images[judged, ..., 0] * PIXEL_MAX).astype(np.uint8)
        np.savez(args.output / "digits_test.npz", images=test, labels=labels[judged].astype(np.uint8))

    for kind, make in (("cnn", cnn), ("mlp", mlp)):
        rng = np.random.default_rng(args.seed)
        network = make(rng)
        size = sum(w.size for w in network.weights().values())
        print(f"{kind}: {size:,} parameters")
        flat = kind == "mlp"
        train(network, images[known], labels[known], flat=flat, epochs=args.epochs, rng=rng)
        held = images[judged]
        accuracy = network.accuracy(held.reshape(len(held), 64) if flat else held, labels[judged])
        print(f"  accuracy {100 * accuracy:.2f} %")
        if not args.validate:
            save(kind, network, accuracy, len(judged), args.output)


if __name__ == "__main__":
    main()
