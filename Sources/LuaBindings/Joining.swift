import Autograd
import Tensors

/// cat and stack, with a name of their own because both operate on lists.
func joined(_ parts: [Tensor], axis: Int, stacks: Bool) throws -> Tensor {
  guard stacks else { return try concatenate(parts, axis: axis) }
  return try concatenate(
    try parts.map { part in
      var shape = part.shape
      shape.insert(1, at: min(axis, shape.count))
      return try reshape(part, shape)
    }, axis: axis)
}
