"""Gives a trained network the weights that make plain per-tensor quantization fail, without changing what it computes.

Networks of depthwise separable convolutions are known for this (MobileNetV2 falls to chance): after BatchNormalization is folded, a few channels of
a depthwise convolution have weights many times larger than all others. One scale for the whole tensor must reach the largest, so the others
are left with a handful of integers. A network as small as the demo's, trained for minutes, has it only mildly. So this makes it plain:

    In each block, take the channels of the depthwise convolution that matter least to what the block adds. For each of them, with c a power of two:
        its input  x_i  becomes x_i / c     (gamma_i and beta_i of the BatchNormalization before it are divided; ReLU(x / c) = ReLU(x) / c)
        its weight w_i  becomes w_i * c
    so that w_i * x_i, and with it everything after, is the same; to the bit, because multiplying by a power of two is exact.

Channels are chosen by the mean square of what they add to the block's output, sum_o p_oi^2 E[y_i^2] (p: projection, y: depthwise output after ReLU),
because their inputs, now c times smaller in a tensor whose activations share one scale, lose precision even where weights are quantized per channel.
"""

import torch

# Channels of each block, and how many times larger than the largest other weight they are made, at least.
CHANNELS, RATIO = 2, 64


def folded_depthwise(block):
    """The depthwise weights [C, 1, 3, 3] after BatchNormalization is folded into them."""
    conv, bn = block.depthwise[0], block.depthwise[1]
    return conv.weight * (bn.weight / torch.sqrt(bn.running_var + bn.eps)).view(-1, 1, 1, 1)


@torch.no_grad()
def rescale(network, pictures):
    """Changes `network` (in eval mode) in place; `pictures` are inputs for E[y^2]. Returns a list of (block, channel, c)."""
    energy = {}
    hooks = [block.depthwise.register_forward_hook(lambda _, __, y, block=block: energy.__setitem__(block, (y**2).mean(dim=(0, 2, 3))))
             for block in network.blocks]
    network(pictures)
    for hook in hooks:
        hook.remove()
    done = []
    for index, block in enumerate(network.blocks):
        conv, bn = block.project[0], block.project[1]
        projection = conv.weight[:, :, 0, 0] * (bn.weight / torch.sqrt(bn.running_var + bn.eps)).view(-1, 1)
        importance = (projection**2).sum(dim=0) * energy[block]
        largest = folded_depthwise(block).abs().amax(dim=(1, 2, 3))
        # A channel whose weights are all but zero would need an absurd factor.
        importance[largest < largest.median() / 100] = float("inf")
        chosen = importance.argsort()[:CHANNELS]
        others = largest.clone()
        others[chosen] = 0
        for channel in chosen.tolist():
            factor = 2.0 ** torch.ceil(torch.log2(RATIO * others.max() / largest[channel])).item()
            before = block.expand[1]
            before.weight[channel] /= factor
            before.bias[channel] /= factor
            block.depthwise[0].weight[channel] *= factor
            done.append((index, channel, factor))
    return done
