import LuaRuntime
import Models
import Tensors

/// Methods of a model by which `qlora.sweep { together = true }` trains several adapters in one pass.
extension Engine {
  private static let partFields = [
    Parameter("variant", .amount, "its number"),
    Parameter("batch", .object("Batch"), "what it trains on"),
  ]

  var variantMethods: [NativeFunction] {
    let number = Parameter("number", .amount, "of the variant; the first is 0")
    return [
      NativeFunction(
        "enter_variant",
        "Puts the model's adapters aside and takes up those of another variant, which has none at first; "
          + "qlora.sweep { together = true } uses it. What is loaded, trained, saved and generated then is that "
          + "variant's.",
        [number], errors: "when parts of the base are trained"
      ) { call in
        try self.model(call).enter(variant: try call.int("number"))
        return []
      },
      NativeFunction(
        "drop_variant", "Forgets the adapters of a variant that is not the present one.", [number]
      ) { call in
        try self.model(call).drop(variant: call.int("number"))
        return []
      },
      NativeFunction(
        "leave_variants", "Goes back to variant 0 and forgets the others.",
        errors: "when parts of the base are trained"
      ) { call in
        try self.model(call).leaveVariants()
        return []
      },
      NativeFunction(
        "losses",
        "The mean cross-entropies of batches of several variants, in one pass over the base: f32 [batches], for "
          + "backward of their sum. Each is that of model:loss in a pass of its own, up to rounding.",
        [Parameter("parts", .rows(Self.partFields), "one table for each variant")], returns: "Tensor",
        errors: "for what cannot share a pass: experts, hooks, trained parts of the base, adapters outside the layers "
          + "or that changed the base"
      ) { call in
        let objects = try call.table("parts").elements.map { value in
          let row = try self.entry(value, Self.partFields, call)
          guard case .object(let object) = row["batch"], let batch = object as? BatchObject else {
            throw call.invalid("each part has a batch")
          }
          return (number: row.int("variant") ?? 0, batch: batch)
        }
        let model = try self.model(call)
        let losses = try self.compute(objects.map(\.batch), call) {
          try model.losses(objects.map { VariantPart(variant: $0.number, part: $0.batch.part) })
        }
        return [self.value(losses, call.state)]
      },
    ]
  }
}
