"""Sizes and parameter names of the published networks, without PyTorch."""

# Of the input layer, then of each area.
CHANNELS = [64, 64, 64, 128, 128, 256, 256, 512, 512]
# Of each area's feed-forward convolution.
STRIDES = [1, 1, 2, 1, 2, 1, 2, 1]


def out_side(side, stride):
    return (side - 1) // stride + 1


def sides(areas, image_side):
    """Side of each area's maps."""
    side = out_side(out_side(image_side, 2), 2)
    out = []
    for stride in STRIDES[:areas]:
        side = out_side(side, stride)
        out.append(side)
    return out


def conv_shapes(areas, in_channels, classes):
    """Module name -> shape of its effective weight."""
    c = CHANNELS
    shapes = {"inp_conv": (c[0], in_channels, 7, 7), "inp_skip": (c[0], c[0], 3, 3)}
    for l in range(areas):
        shapes[f"area_conv.{l}"] = (c[l + 1], c[l + 1], 3, 3)
        shapes[f"area_area.{l}"] = (c[l + 1], c[l], 3, 3)
    for k in range(areas // 2 - 1):
        shapes[f"skip_area.{k}"] = (c[2 * k + 4], c[2 * k + 2], 1, 1)
    shapes["out_fc"] = (classes, c[areas])
    return shapes


def parameter_names(module):
    """Names of row lengths and directions of a weight-normalised module."""
    return [f"{module}.parametrizations.weight.original{part}" for part in (0, 1)]
