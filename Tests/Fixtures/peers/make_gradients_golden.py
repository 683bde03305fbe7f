"""Values and gradients of PyTorch where operations have a choice: ties of extrema, powers at 0 and of negative numbers,
the forms of GELU, products over nothing. Writes gradients.json beside this script; numbers are texts, so that nan and
infinities stay. Made with torch 2.13.0: python3 make_gradients_golden.py"""

import json
import os

import torch

nan, inf = float("nan"), float("inf")


def texts(tensor):
    return [repr(float(x)) for x in tensor.detach().flatten()]


def case(name, operation, *operands, **extra):
    inputs = [torch.tensor(x, dtype=torch.float32, requires_grad=True) for x in operands]
    y = operation(*inputs)
    weights = torch.arange(1, y.numel() + 1, dtype=torch.float32).reshape(y.shape)  # a seed that tells elements apart
    (y * weights).sum().backward()
    return {
        "name": name, **extra,
        "operands": [{"shape": list(x.shape), "values": texts(x)} for x in inputs],
        "result": texts(y), "gradients": [texts(x.grad) for x in inputs],
    }


matrix = [[1.0, 3.0, 3.0], [3.0, 2.0, 1.0], [2.0, 2.0, 2.0]]
holed = [[1.0, nan, 3.0], [nan, nan, 1.0]]
bases = [0.0, 0.0, 0.0, 0.0, 0.0, -2.0, -2.0, -2.0, 2.0, 2.0, 1.0, inf, inf]
exponents = [0.0, 1.0, 2.0, 0.5, -1.0, 2.0, 3.0, 0.5, 0.0, -1.5, 5.0, 0.0, 2.0]
points = [-20.0, -3.0, -1.0, -0.1, 0.0, 0.1, 1.0, 3.0, 20.0]
first, second = [1.0, 2.0, 3.0, nan, 1.0], [1.0, 3.0, 2.0, 1.0, nan]

cases = [
    case("max", lambda x: x.max(), matrix),
    case("min", lambda x: x.min(), matrix),
    case("max", lambda x: x.max(), holed),
    case("min", lambda x: x.min(), holed),
    case("max", lambda x: x.max(dim=0).values, matrix, axis=0),
    case("max", lambda x: x.max(dim=1).values, matrix, axis=1),
    case("min", lambda x: x.min(dim=0).values, matrix, axis=0),
    case("min", lambda x: x.min(dim=1).values, matrix, axis=1),
    case("max", lambda x: x.max(dim=1).values, holed, axis=1),
    case("min", lambda x: x.min(dim=0).values, holed, axis=0),
    case("maximum", torch.maximum, first, second),
    case("minimum", torch.minimum, first, second),
    case("power", torch.pow, bases, exponents),
    case("gelu tanh", lambda x: torch.nn.functional.gelu(x, approximate="tanh"), points),
    case("gelu none", torch.nn.functional.gelu, points),
    case("erf", torch.erf, points),
]
# Tensors without elements lose their shape in lists, so these are made apart.
for left, right in [((2, 0), (0, 3)), ((0,), (0,)), ((4, 2, 0), (4, 0, 3)), ((0, 2), (2, 3)), ((2, 3), (3, 0))]:
    a, b = torch.zeros(left, requires_grad=True), torch.zeros(right, requires_grad=True)
    y = torch.matmul(a, b)
    y.sum().backward()
    cases.append({
        "name": "matmul", "shape": list(y.shape) or [1],
        "operands": [{"shape": list(x.shape), "values": texts(x)} for x in (a, b)],
        "result": texts(y), "gradients": [texts(x.grad) for x in (a, b)],
    })

path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "gradients.json")
with open(path, "w") as file:
    json.dump({"torch": torch.__version__, "cases": cases}, file, indent=1)
    file.write("\n")
