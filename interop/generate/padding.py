"""Makes `padding.npz`: what the goldens' encoders give for texts that hold the padding token.

Run it where ``models.py`` runs, after that::

    python -m interop.generate.padding

A text may spell its padding token, and tokenizers then mark it as one to attend to. The file is in
``tests/parity``. It has for each family
``<family>/<case>/token_ids`` (T,) and ``<family>/<case>/last`` (T, D), the ``last_hidden_state``.
"""

import argparse

import numpy as np
import torch
import transformers

from interop import PARITY

CASES = {"within": (2, 5), "at both ends": (0, 8), "in a row": (3, 4, 5), "none": ()}
"""Which of nine tokens are padding."""


@torch.no_grad()
def main() -> None:
    """Makes the file."""
    arrays = {}
    for place in sorted(PARITY.glob("goldens/*/encoder")):
        model = transformers.AutoModel.from_pretrained(place, attn_implementation="eager").eval()
        family = place.parent.name
        for number, (case, pads) in enumerate(CASES.items()):
            ids = (torch.arange(9) * (number + 3) + 7) % 23 + 3
            ids[list(pads)] = model.config.pad_token_id
            given = {"input_ids": ids[None], "attention_mask": torch.ones(1, 9, dtype=torch.long)}
            arrays[f"{family}/{case}/token_ids"] = ids.numpy()
            arrays[f"{family}/{case}/last"] = model(**given).last_hidden_state[0].numpy()
    np.savez_compressed(PARITY / "padding.npz", **arrays)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    torch.set_num_threads(1)
    main()
