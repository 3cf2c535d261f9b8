"""oneDNN convolutions with prepacked weights and fused additions, and the pointwise parts of a leaky step.

These are the operators that inductor emits when it freezes a graph; they have no autograd formula.
"""
import torch

OPS = torch.ops.mkldnn


class Packed:
    """A convolution whose weight is laid out once for inputs of one shape (channels_last)."""

    def __init__(self, weight, x_shape, stride=1, padding=None):
        padding = weight.shape[-1] // 2 if padding is None else padding
        self.geometry = [padding] * 2, [stride] * 2, [1, 1], 1
        self.weight = OPS._reorder_convolution_weight(weight.detach(), *self.geometry, list(x_shape))

    def __call__(self, x):
        """conv(x)."""
        return OPS._convolution_pointwise(x, self.weight, None, *self.geometry, "none", [], "")

    def plus(self, x, other, relu=False):
        """conv(x) + other, rectified where asked for."""
        unary = "relu" if relu else None
        return OPS._convolution_pointwise.binary(
            x, other, self.weight, None, *self.geometry, "add", 1.0, unary, [], "" if relu else None
        )


def transposed(weight, x_shape):
    """The transpose of a stride-1 convolution as a convolution of its own."""
    return Packed(weight.detach().flip(2, 3).transpose(0, 1).contiguous(), x_shape)


def leak(r, u, alpha, out):
    """out = (1 - alpha) r + alpha u. Where u = 0 it equals (1 - alpha) r to the last bit, which `adjoint` relies on."""
    out.copy_(r * (1 - alpha) + u * alpha)


def adjoint(before, after, g, delta, total, alpha):
    """delta = alpha g where u > 0, total += delta, g *= 1 - alpha; `before` and `after` enclose the step."""
    d = torch.where(after > before * (1 - alpha), g * alpha, 0.0)
    delta.copy_(d)
    total.add_(d)
    g.mul_(1 - alpha)


compiled_leak = torch.compile(leak, dynamic=False)
compiled_adjoint = torch.compile(adjoint, dynamic=False)


def weight_gradient(x, dy, weight, stride=1, padding=None):
    """Gradient of <dy, conv(x)> with respect to the weight."""
    padding = weight.shape[-1] // 2 if padding is None else padding
    return torch.ops.aten.convolution_backward(
        dy, x, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, [False, True, False]
    )[1]


def input_gradient(x, dy, weight, stride=1, padding=None):
    """Gradient of <dy, conv(x)> with respect to x (whose values do not matter)."""
    padding = weight.shape[-1] // 2 if padding is None else padding
    return torch.ops.aten.convolution_backward(
        dy, x, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, [True, False, False]
    )[0]
