import CPUBackend
import LuaRuntime
import Models
import Tensors

extension Engine {
  var cpuFunction: NativeFunction {
    NativeFunction(
      "cpu",
      "What computes: processor, the instruction set in use, those it has (sets) and those of them that it is faster "
        + "without (slow_sets), threads, whether the set in use has products of bf16 values, and "
        + "what models compute in when nothing is said. With measure also its limits.",
      [
        Parameter(
          "options",
          .options([
            Parameter(
              "measure", .boolean, default: "false",
              "measure for a second: GFLOP/s of products in f32 and bf16, GB/s of reading and copying memory")
          ]), optional: true, "the options below")
      ], returns: "table"
    ) { call in
      let table = call.state.newTable()
      let computes = LoadOptions.defaultComputeType(on: self.backend)
      table["processor"] = .string(Processor.name)
      table["set"] = .string(self.backend.kernelName)
      let sets = InstructionSet.allCases.filter(\.isSupported)
      table["sets"] = .table(call.state.list(sets.map { .string($0.name) }))
      table["slow_sets"] = .table(call.state.list(sets.filter(\.isSlow).map { .string($0.name) }))
      table["threads"] = .integer(self.backend.threadCount)
      table["processors"] = .integer(Processor.count)
      table["bf16"] = .bool(self.backend.multipliesBFloat16)
      table["compute"] = .string(computes.name)
      guard call.options("options").bool("measure") == true else { return [.table(table)] }
      guard let backend = self.backend as? CPUBackend else { throw call.invalid("only the device cpu is measured") }
      let limits = try MachineLimits(backend, seconds: 0.2)
      table["f32_gflops"] = .number(limits.floatGFLOPS)
      table["bf16_gflops"] = .number(limits.pairGFLOPS)
      table["read_gbps"] = .number(limits.readGBps)
      table["copy_gbps"] = .number(limits.copyGBps)
      return [.table(table)]
    }
  }
}
