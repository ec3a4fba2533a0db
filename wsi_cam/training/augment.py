"""Random changes of training patches that do not change their label.

Tissue has no up and no left, so the eight symmetries of the square are free. What differs between
laboratories is stain and scanner: the stain jitter works in haematoxylin, eosin and
residual densities (Ruifrok and Johnston 2001; its use as augmentation: Tellez et al. 2018, arXiv
1808.05896), the colour jitter on top is torchvision's.
"""

from __future__ import annotations

import torch
from torchvision.transforms import v2

#: Rows: optical density (R, G, B) of haematoxylin, eosin and the residual (Ruifrok and Johnston).
_STAIN_DENSITY = torch.tensor([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])


def jitter_stain(images: torch.Tensor, sigma: float, generator: torch.Generator) -> torch.Tensor:
    """Scale and shift each stain of each image by a random amount of at most ``sigma``.

    ``images`` is uint8 (n, 3, h, w) RGB, and so is the result. The shift is in units of optical
    density, a fifth as wide as the scale so that glass stays near white.
    """
    n = images.shape[0]
    density = -torch.log10((images.float().clamp(min=1.0)) / 255.0)
    stains = torch.einsum("nchw,cs->nshw", density, torch.linalg.inv(_STAIN_DENSITY))
    scale = 1 + sigma * (2 * torch.rand(n, 3, 1, 1, generator=generator) - 1)
    shift = 0.2 * sigma * (2 * torch.rand(n, 3, 1, 1, generator=generator) - 1)
    density = torch.einsum("nshw,sc->nchw", stains * scale + shift, _STAIN_DENSITY)
    return (255.0 * torch.pow(10.0, -density)).round().clamp(0, 255).to(torch.uint8)


def turn_randomly(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each image of (n, c, s, s) in one of the eight orientations of a square, drawn evenly."""
    turned = torch.empty_like(images)
    for i, choice in enumerate(torch.randint(8, (images.shape[0],), generator=generator).tolist()):
        image = torch.rot90(images[i], choice % 4, dims=(1, 2))
        turned[i] = image.flip(2) if choice >= 4 else image
    return turned


def augment_patches(images: torch.Tensor, seed: int) -> torch.Tensor:
    """Orientation, stain and colour of a batch, uint8 (n, 3, s, s) in and out.

    The same ``seed`` gives the same result: a resumed training sees what an undisturbed one saw.
    """
    generator = torch.Generator().manual_seed(seed)
    images = jitter_stain(turn_randomly(images, generator), sigma=0.15, generator=generator)
    colour = v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.05)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.stack([colour(image) for image in images])
