import CPUBackend

// Kernels against the limits of the machine, measured in the same run.
//   swift run -c release kernel-bench [--threads N] [--only PART] [--json] [--seconds S] [table...]
// Tables: products quantized blocks adapters head attention optimizers quantization rows recurrent; without a name all. The
// limits stand before them; the name `limits` asks for nothing else.

func run(_ arguments: [String]) throws {
  var threads = 2
  var wanted = ""
  var isJSON = false
  var budget = 0.4
  var tables: [String] = []
  var rest = arguments[...]
  while let argument = rest.popFirst() {
    switch argument {
    case "--threads": threads = rest.popFirst().flatMap { Int($0) } ?? threads
    case "--only": wanted = rest.popFirst() ?? ""
    case "--json": isJSON = true
    case "--seconds": budget = rest.popFirst().flatMap { Double($0) } ?? budget
    default: tables.append(argument)
    }
  }
  let backend = CPUBackend(threadCount: threads)
  let bench = Bench(backend: backend, wanted: wanted, isJSON: isJSON, budget: budget)
  if !isJSON {
    print("\(backend.instructionSet), \(threads) threads\n\n| work | rate | of the limit |\n|---|---|---|")
  }
  let limits = try Limits.measure(bench)
  limits.print(bench)
  let (products, passes) = (Products(bench: bench, limits: limits), Passes(bench: bench, limits: limits))
  let all: [(String, () throws -> Void)] = [
    ("products", products.runDense), ("quantized", products.runQuantized), ("blocks", products.runBlocks),
    ("adapters", products.runAdapters),
    ("head", products.runHead), ("attention", passes.runAttention), ("optimizers", passes.runOptimizers),
    ("quantization", passes.runQuantization), ("rows", passes.runRows), ("recurrent", passes.runRecurrent),
  ]
  for name in tables where name != "limits" && !all.contains(where: { $0.0 == name }) {
    print("no table '\(name)'; there are limits " + all.map(\.0).joined(separator: " "))
  }
  for (name, body) in all where tables.isEmpty || tables.contains(name) { try body() }
  // Memory is shared with other machines' work and may be faster by now.
  if isJSON, tables != ["limits"] { try Limits.measure(bench).print(bench) }
}

try run(Array(CommandLine.arguments.dropFirst()))
