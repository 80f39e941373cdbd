"""Token dropout of ESM: embeddings of masks are left out, and the others scaled."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from encodax.config import TokenDropoutConfig
from encodax.nn.pooling import membership
from encodax.types.batches import PackedBatch


def drop_masks(
    x: Float[Array, "B T D"], batch: PackedBatch, config: TokenDropoutConfig
) -> Float[Array, "B T D"]:
    """Apply ESM's token dropout, in training and out of it.

    Embeddings of `<mask>` become 0, the others are scaled by (1 - training share) / (1 - m), with
    m the share of masks in the token's sequence: the mean stays what it was in pretraining.
    """
    masked = jnp.asarray(batch.token_ids) == config.mask_id  # (B, T)
    member = membership(batch)  # (B, N, T)
    count = jnp.einsum("bnt,bt->bn", member, masked.astype(jnp.float32))
    share = count / jnp.maximum(jnp.asarray(batch.lengths), 1)  # (B, N)
    # A sequence of masks alone has nothing to scale.
    scale = (1 - config.training_share) / jnp.where(share < 1, 1 - share, 1.0)  # (B, N)
    x = jnp.where(masked[:, :, None], 0.0, x)
    return x * jnp.einsum("bnt,bn->bt", member, scale)[:, :, None].astype(x.dtype)
