import CPUBackend
import Glibc

// Kernels against the limits of the machine, measured in the same run.
//   swift run -c release kernel-bench [--threads N] [--only PART] [--json] [--seconds S] [table...]
// Tables: products quantized blocks adapters layers head attention optimizers quantization rows recurrent; without a
// name all. The limits stand before them; the name `limits` asks for nothing else. `--only` takes a part of a row's
// name.

func fail(_ message: String) -> Never {
  let line = "kernel-bench: \(message)\n"
  _ = line.withCString { write(STDERR_FILENO, $0, strlen($0)) }
  exit(2)
}

func run(_ arguments: [String]) throws {
  var threads = 2
  var wanted = ""
  var isJSON = false
  var budget = 0.4
  var tables: [String] = []
  var rest = arguments[...]
  while let argument = rest.popFirst() {
    switch argument {
    case "--json": isJSON = true
    case "--threads":
      guard let count = rest.popFirst().flatMap(Int.init), (1...1024).contains(count) else {
        fail("--threads takes a number of threads")
      }
      threads = count
    case "--seconds":
      guard let time = rest.popFirst().flatMap(Double.init), time > 0, time < 3600 else {
        fail("--seconds takes a positive number")
      }
      budget = time
    case "--only":
      guard let part = rest.popFirst() else { fail("--only takes a part of a row's name") }
      wanted = part
    case _ where argument.hasPrefix("-"): fail("no flag '\(argument)'; there are --threads --only --json --seconds")
    default: tables.append(argument)
    }
  }
  let all: [(name: String, run: (Products, Passes) throws -> Void)] = [
    ("products", { products, _ in try products.runDense() }),
    ("quantized", { products, _ in try products.runQuantized() }),
    ("blocks", { products, _ in try products.runBlocks() }),
    ("shares", { products, _ in try products.runShares() }),
    ("adapters", { products, _ in try products.runAdapters() }),
    ("layers", { products, _ in try products.runLayers() }),
    ("head", { products, _ in try products.runHead() }),
    ("attention", { _, passes in try passes.runAttention() }),
    ("optimizers", { _, passes in try passes.runOptimizers() }),
    ("quantization", { _, passes in try passes.runQuantization() }),
    ("rows", { _, passes in try passes.runRows() }),
    ("recurrent", { _, passes in try passes.runRecurrent() }),
  ]
  if let name = tables.first(where: { name in name != "limits" && !all.contains { $0.name == name } }) {
    fail("no table '\(name)'; there are limits " + all.map(\.name).joined(separator: " "))
  }
  let backend = CPUBackend(threadCount: threads)
  let bench = Bench(backend: backend, wanted: wanted, isJSON: isJSON, budget: budget)
  if !isJSON {
    print("\(backend.instructionSet), \(threads) threads\n\n| work | rate | of the limit |\n|---|---|---|")
  }
  let limits = try Limits.measure(bench)
  limits.print(bench)
  let (products, passes) = (Products(bench: bench, limits: limits), Passes(bench: bench, limits: limits))
  for table in all where tables.isEmpty || tables.contains(table.name) { try table.run(products, passes) }
  if !wanted.isEmpty, bench.rows.count == 0 { fail("no row of the tables has '\(wanted)' in its name") }
  // Memory is shared with other machines' work and may be faster by now.
  if isJSON, tables != ["limits"] { try Limits.measure(bench).print(bench) }
}

try run(Array(CommandLine.arguments.dropFirst()))
