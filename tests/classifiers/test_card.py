from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from tests.make_models import model_card
from wsi_cam.classifiers.card import card_from_dict
from wsi_cam.errors import ModelError

WSINFER_CONFIG: dict[str, Any] = {
    "spec_version": "1.0",
    "architecture": "resnet50",
    "num_classes": 2,
    "class_names": ["notumor", "tumor"],
    "patch_size_pixels": 350,
    "spacing_um_px": 0.25,
    "transform": [
        {"name": "Resize", "arguments": {"size": 224}},
        {"name": "ToTensor"},
        {"name": "Normalize", "arguments": {"mean": [0.7, 0.6, 0.7], "std": [0.2, 0.25, 0.2]}},
    ],
}

# What a reader of WSInfer-zoo's cards relies on.
WSINFER_SCHEMA = {
    "type": "object",
    "required": [*WSINFER_CONFIG],
    "properties": {
        "spec_version": {"const": "1.0"},
        "architecture": {"type": "string"},
        "num_classes": {"type": "integer", "minimum": 1},
        "class_names": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        "patch_size_pixels": {"type": "integer", "minimum": 1},
        "spacing_um_px": {"type": "number", "minimum": 0},
        "transform": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "additionalProperties": False,
                "properties": {
                    "name": {"enum": ["Resize", "ToTensor", "Normalize"]},
                    "arguments": {"type": "object"},
                },
            },
        },
    },
}


def config(**changes: Any) -> dict[str, Any]:
    return {k: v for k, v in (WSINFER_CONFIG | changes).items() if v is not ...}


def test_a_card_survives_the_way_through_json_with_everything_in_it() -> None:
    card = model_card(
        temperature=1.7, evidence_scale=(3.0, 9.5), label_region_px=32, default_overlap=0.5,
        target_class="normal", class_colors=((0, 0, 200), (200, 0, 0)), head_centred=True,
        architecture_variant="stride_in_conv1",
        extra={"metrics": {"auc": 0.97}, "data": ["PCam"], "note": "µm"},
    )  # fmt: skip
    assert card_from_dict(json.loads(json.dumps(card.as_dict())), default_name="?") == card
    assert card.stride_in == "conv1"


def test_readers_of_wsinfer_cards_can_read_ours() -> None:
    jsonschema.validate(model_card().as_dict(), WSINFER_SCHEMA)


def test_a_wsinfer_card_is_read_unchanged_and_a_resize_becomes_a_spacing() -> None:
    card = card_from_dict(WSINFER_CONFIG, default_name="breast")
    assert card.name == "breast"
    assert card.class_names == ("notumor", "tumor")
    assert card.target_class == "tumor"
    assert card.patch_size_px == 224
    assert card.mpp_um == pytest.approx(0.25 * 350 / 224)
    assert card.mean == (0.7, 0.6, 0.7)
    assert card.std == (0.2, 0.25, 0.2)
    assert card.architecture_variant == "stride_in_conv2"
    assert not card.head_centred


def test_without_a_resize_or_a_normalize_the_patch_is_taken_as_it_is() -> None:
    card = card_from_dict(config(transform=[{"name": "ToTensor"}]), default_name="?")
    assert (card.patch_size_px, card.mpp_um) == (350, 0.25)
    assert (card.mean, card.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def test_a_sigmoid_card_names_one_class_and_gets_its_negation() -> None:
    card = card_from_dict(config(num_classes=1, class_names=["tumor"]), default_name="?")
    assert card.class_names == ("not tumor", "tumor")


def test_keys_that_nobody_knows_are_kept() -> None:
    card = card_from_dict(config(citation="doi:10/abc", laboratory={"scanner": "GT450"}), default_name="?")
    assert card.extra == {"citation": "doi:10/abc", "laboratory": {"scanner": "GT450"}}
    assert card.as_dict()["laboratory"] == {"scanner": "GT450"}


def test_the_order_of_keys_does_not_matter_to_the_canonical_text() -> None:
    one = model_card(extra={"a": 1, "b": 2}).canonical_json()
    assert one == model_card(extra={"b": 2, "a": 1}).canonical_json()
    assert one != model_card(extra={"a": 1, "b": 3}).canonical_json()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"transform": [{"name": "ToTensor"}, {"name": "CenterCrop"}]}, "'CenterCrop' is not supported"),
        ({"transform": [{"name": "Normalize"}, {"name": "ToTensor"}]}, "is not Resize"),
        (
            {"transform": [{"name": "Resize", "arguments": {"size": [224, 256]}}, {"name": "ToTensor"}]},
            "square",
        ),
        ({"transform": [{"name": "ToTensor"}, {"name": "Normalize"}]}, "mean None; give three numbers"),
        ({"transform": ["ToTensor"]}, "transform is missing or no list"),
        ({"transform": ...}, "transform is missing or no list"),
        ({"num_classes": 3}, "num_classes is 3, but class_names holds 2"),
        ({"num_classes": ...}, "'num_classes' is missing"),
        ({"class_names": "tumor"}, "class_names is 'tumor'"),
        ({"class_names": ["tumor", "tumor"]}, "different for each class"),
        ({"spacing_um_px": 0}, "spacing_um_px is 0"),
        ({"spacing_um_px": True}, "spacing_um_px is True"),
        ({"patch_size_pixels": 12.5}, "patch_size_pixels is 12.5"),
        ({"architecture": ...}, "'architecture' is missing"),
        ({"temperature": -1}, "temperature is -1"),
        ({"temperature": [1]}, r"temperature is \[1\]"),
        ({"evidence_scale": [1.0]}, "for each of the 2 classes"),
        ({"evidence_scale": 3.0}, "wrong type"),
        ({"label_region_px": 500}, "between 1 and the patch size"),
        ({"default_overlap": 1.0}, "at least 0 and below 1"),
        ({"target_class": "stroma"}, "target_class is 'stroma'"),
        ({"class_colors": [[0, 0, 0], [0, 0, 256]]}, "0 to 255"),
        ({"architecture_variant": "conv1"}, "stride_in_conv1 or stride_in_conv2"),
    ],
)
def test_a_card_that_contradicts_itself_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelError, match=reason) as refused:
        card_from_dict(config(**changes), default_name="?")
    assert "\n" not in str(refused.value)


def test_extra_may_neither_shadow_the_card_nor_hold_what_json_cannot() -> None:
    with pytest.raises(ModelError, match="temperature"):
        model_card(extra={"temperature": 2})
    with pytest.raises(ModelError, match="JSON"):
        model_card(extra={"auc": float("nan")}).canonical_json()


@pytest.mark.parametrize("content", [[], "card", 3, None])
def test_json_that_is_no_object_is_no_card(content: object) -> None:
    with pytest.raises(ModelError, match="not a JSON object"):
        card_from_dict(content, default_name="?")
