"""Explain predictions with shap and lime, which ask for a function from arrays to probabilities: `model.predict`.

Needs both packages: `pip install shap lime`. Takes about a minute, most of it for importing them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import forwardpass as fp
from forwardpass.builder import Dense, GlobalAveragePooling2D, Input, Sequential

WEIGHTS = np.float32([2.0, -1.0, 0.0, 0.5])
"""Of the columns in the table that the first example explains."""


def table_model() -> fp.Model:
    """The chance of a yes: sigmoid(weights . columns)."""
    network = Sequential([Input((4,)), Dense(1, activation="sigmoid", name="out")])
    network.init(seed=0).set_weights({"out/kernel": WEIGHTS[:, None], "out/bias": np.zeros(1, np.float32)})
    return fp.Model(network)


def columns(rows: int = 40) -> dict[str, Any]:
    """How much each column moves the logit of one row, by KernelSHAP over a background of other rows.

    For a linear logit that is the weight times the distance from the mean of the background: the explanation can be
    checked.
    """
    import shap

    model, source = table_model(), np.random.default_rng(0)
    background = source.standard_normal((rows, 4)).astype(np.float32)
    row = np.float32([[1.0, 2.0, 3.0, -1.0]])

    def logit(x: Any) -> Any:
        chance = model.predict(np.asarray(x, np.float32), batch_size=1024)[:, 0].astype(np.float64)
        return np.log(chance / (1 - chance))

    found = shap.KernelExplainer(logit, background).shap_values(row, silent=True)
    return {"shap": np.asarray(found).ravel(), "exact": WEIGHTS * (row - background.mean(axis=0))[0]}


def picture_model() -> fp.Model:
    """Two classes, "red" and "blue", by the mean colour of a picture of any size."""
    network = Sequential([Input((32, 32, 3)), GlobalAveragePooling2D(), Dense(2, activation="softmax", name="out")])
    kernel = np.float32([[8, -8], [0, 0], [-8, 8]])
    network.init(seed=0).set_weights({"out/kernel": kernel, "out/bias": np.zeros(2, np.float32)})
    model = fp.Model(network).with_preprocessing("unit")
    model.labels = ["red", "blue"]
    return model


def regions() -> dict[str, Any]:
    """Which part of a picture speaks for its class, by LIME: a red square on grey, of which the class is "red"."""
    from lime import lime_image
    from lime.wrappers.scikit_image import SegmentationAlgorithm

    model = picture_model()
    picture = np.full((48, 64, 3), 128, np.uint8)
    picture[8:28, 10:34] = [220, 30, 30]
    explainer = lime_image.LimeImageExplainer(random_state=0)
    explained = explainer.explain_instance(
        picture,
        lambda images: model.predict(np.asarray(images, np.uint8)),
        top_labels=1,
        hide_color=128,
        num_samples=200,
        random_seed=0,
        segmentation_fn=SegmentationAlgorithm("slic", n_segments=20, compactness=10, sigma=1, start_label=0),
    )
    _, mask = explained.get_image_and_mask(
        explained.top_labels[0], positive_only=True, num_features=20, min_weight=0.02
    )
    return {"label": model.labels[explained.top_labels[0]], "mask": mask.astype(bool), "picture": picture}


def main() -> None:
    """Print both explanations."""
    found = columns()
    print("What each column does to the logit:")
    for name, by_shap, exact in zip("abcd", found["shap"], found["exact"]):
        print(f"  {name}  {by_shap:+.3f}  (exact: {exact:+.3f})")
    shown = regions()
    red = shown["picture"][..., 0] > 200
    share = (shown["mask"] & red).sum() / red.sum()
    print(f"The picture is {shown['label']!r}; the regions that say so cover {share:.0%} of the red square:")
    for line in shown["mask"][::4, ::2]:
        print("  " + "".join("#" if cell else "." for cell in line))


if __name__ == "__main__":
    main()
