// swift-tools-version: 6.2
import Foundation
import PackageDescription

// The targets of the picture in docs/architecture.md, and one for each library of C; imports point downward only
// (Tests/ArchitectureTests reads them and fails on any other).

#if arch(x86_64)
  let isX86 = true
#else
  let isX86 = false
#endif

/// Settings of one instruction-set build of `Sources/Kernels`. The kernels are optimised even in debug
/// builds, because unoptimised vector code is hundreds of times slower. On ARM all four builds are for NEON: the
/// baseline is used, or the last one, which has dot products of bfloat16.
func kernelSettings(_ define: String, _ flags: [String]) -> [SwiftSetting] {
  let isLast = define == "ISA_AVX512BF16"
  let defines = isX86 ? [define] : isLast ? ["ISA_NEON", "ISA_NEON_BF16"] : ["ISA_NEON"]
  let flags = isX86 ? flags : isLast ? ["-march=armv8.2-a+bf16"] : []
  return defines.map { .define($0) } + [
    .unsafeFlags(
      ["-O", "-enforce-exclusivity=unchecked"] + flags.flatMap { ["-Xcc", $0] }, .when(platforms: [.linux]))
  ]
}

/// Loops over elements that live outside the kernel targets (decoders, tokenizers, packing).
let optimised: [SwiftSetting] = [.unsafeFlags(["-O"], .when(configuration: .debug))]

/// Tests are optimised in debug builds too where they compute a kernel's definition element by element.
func tests(_ name: String, _ dependencies: [Target.Dependency], swiftSettings: [SwiftSetting] = []) -> Target {
  .testTarget(name: name + "Tests", dependencies: dependencies, swiftSettings: swiftSettings)
}

let package = Package(
  name: "qlora",
  products: [
    .executable(name: "qlora-run", targets: ["qlora-run"]),
    .library(name: "QLoRA", targets: ["QLoRA"]),
  ],
  targets: [
    // MARK: Machine
    .target(name: "CPlatform"),
    .target(name: "Numerics", swiftSettings: optimised),
    .target(
      name: "KernelsBaseline", dependencies: ["Numerics", "CPlatform"],
      swiftSettings: kernelSettings("ISA_BASELINE", ["-march=x86-64"])),
    .target(
      name: "KernelsAVX2", dependencies: ["Numerics", "CPlatform"],
      swiftSettings: kernelSettings("ISA_AVX2", ["-march=x86-64-v3"])),
    .target(
      name: "KernelsAVX512", dependencies: ["Numerics", "CPlatform"],
      swiftSettings: kernelSettings("ISA_AVX512", ["-march=x86-64-v4"])),
    .target(
      name: "KernelsAVX512BF16", dependencies: ["Numerics", "CPlatform"],
      swiftSettings: kernelSettings("ISA_AVX512BF16", ["-march=x86-64-v4", "-mavx512bf16"])),
    .target(
      name: "CPUBackend",
      dependencies: [
        "Tensors", "Numerics", "CPlatform",
        "KernelsBaseline", "KernelsAVX2", "KernelsAVX512", "KernelsAVX512BF16",
      ],
      swiftSettings: optimised),

    .target(name: "Ranks"),

    // MARK: Engine
    .target(name: "Tensors", swiftSettings: optimised),
    .target(name: "Autograd", dependencies: ["Tensors"]),
    .target(name: "Quantization", dependencies: ["Tensors", "Numerics"], swiftSettings: optimised),
    .target(name: "Formats", dependencies: ["Tensors", "CPlatform"], swiftSettings: optimised),
    .target(name: "Tokenizers", dependencies: ["Formats", "CPCRE2"], swiftSettings: optimised),
    .target(name: "Models", dependencies: ["Tensors", "Autograd", "Quantization", "Formats", "Tokenizers"]),
    .target(
      name: "Adapters", dependencies: ["Models", "Tokenizers", "Formats", "Quantization", "Autograd", "Tensors"]),
    .target(name: "Optimizers", dependencies: ["Tensors", "Formats", "Numerics"]),
    .target(
      name: "Training",
      dependencies: ["Optimizers", "Adapters", "Models", "Formats", "Quantization", "Autograd", "Tensors", "Ranks"]),
    .target(
      name: "QLoRA",
      dependencies: [
        "Training", "Ranks", "Optimizers", "Adapters", "Models", "Tokenizers", "Formats", "Quantization", "Autograd",
        "Tensors", "CPUBackend",
      ]),

    // libcurl is opened at run time: no package of it is needed to build.
    .systemLibrary(name: "CCurl"),
    .target(name: "Hub", dependencies: ["CCurl", "Formats", "Tensors"]),

    .systemLibrary(name: "CSQLite", pkgConfig: "sqlite3", providers: [.apt(["libsqlite3-dev"])]),
    .target(name: "Database", dependencies: ["CSQLite"]),

    // libmicrohttpd is opened at run time, too; its header is needed to build.
    .systemLibrary(name: "CMicroHTTPD", providers: [.apt(["libmicrohttpd-dev"])]),
    .target(name: "Serving", dependencies: ["CMicroHTTPD"]),

    // MARK: Lua
    .systemLibrary(name: "CLua", pkgConfig: "lua5.4", providers: [.apt(["liblua5.4-dev"])]),
    .systemLibrary(name: "CPCRE2", pkgConfig: "libpcre2-8", providers: [.apt(["libpcre2-dev"])]),
    .systemLibrary(name: "CEdit", pkgConfig: "libedit", providers: [.apt(["libedit-dev"])]),
    .target(name: "CLuaTrampoline", dependencies: ["CLua"]),
    .target(name: "LuaRuntime", dependencies: ["CLua", "CLuaTrampoline"]),
    .target(
      name: "LuaBindings",
      dependencies: [
        "LuaRuntime", "Training", "Optimizers", "Adapters", "Models", "Tokenizers", "Formats", "Quantization",
        "Autograd", "Tensors", "CPUBackend", "Numerics", "Database", "Ranks", "Serving", "Hub",
      ]),
    .executableTarget(name: "qlora-run", dependencies: ["LuaBindings", "LuaRuntime", "Formats", "Ranks", "CEdit"]),
    // Mutation of files and calls, see docs/reliability.md. It reads as the program does, and asks what only targets of
    // this package may ask.
    .executableTarget(
      name: "fuzz",
      dependencies: [
        "LuaBindings", "LuaRuntime", "Adapters", "Models", "Tokenizers", "Formats", "Tensors", "CPUBackend",
      ], path: "Fuzz/Sources", swiftSettings: optimised),

    // MARK: Benchmarks
    .executableTarget(
      name: "kernel-bench",
      dependencies: ["CPUBackend", "Quantization", "Tensors"],
      path: "Benchmarks/kernels/kernel-bench",
      // The bandwidth limits are loops of this program.
      swiftSettings: [.unsafeFlags(["-Xcc", "-march=native", "-enforce-exclusivity=unchecked"])]),

    .executableTarget(
      name: "ranks-bench", dependencies: ["Training", "CPUBackend", "Ranks", "Tensors"],
      path: "Benchmarks/ranks/ranks-bench"),

    // MARK: Tests
    tests("Numerics", ["Numerics"]),
    tests("Ranks", ["Ranks"]),
    // The tile instructions of AMX in C: most processors have none.
    .target(name: "CTileTwin", path: "Tests/TileTwin"),
    tests("CPUBackend", ["CPUBackend", "Tensors", "Numerics", "CTileTwin"], swiftSettings: optimised),
    tests("Tensors", ["Tensors", "CPUBackend", "Numerics"]),
    tests("Autograd", ["Autograd", "Tensors", "CPUBackend", "Quantization"]),
    tests("Quantization", ["Quantization", "Tensors", "CPUBackend", "Formats", "Numerics"], swiftSettings: optimised),
    tests("Formats", ["Formats", "Tensors"]),
    tests("Hub", ["Hub", "Formats", "Tensors"]),
    tests("Tokenizers", ["Tokenizers", "Formats"]),
    tests("Models", ["Models", "Adapters", "CPUBackend", "Formats"]),
    tests("Adapters", ["Adapters", "Models", "CPUBackend", "Formats"]),
    tests("Optimizers", ["Optimizers", "CPUBackend", "Tensors", "Numerics"], swiftSettings: optimised),
    tests("Training", ["QLoRA"]),
    tests(
      "Device",
      [
        "Training", "Optimizers", "Adapters", "Models", "Autograd", "Quantization", "Tensors", "Numerics", "CPUBackend",
      ],
      swiftSettings: optimised),
    tests("Database", ["Database"]),
    tests("LuaRuntime", ["LuaRuntime", "CLua"]),
    tests("LuaBindings", ["LuaBindings", "LuaRuntime", "Adapters", "Formats", "Models", "Serving", "Tensors"]),
    tests("Recipe", ["Formats"]),
    tests("Architecture", []),
  ],
  swiftLanguageModes: [.v6])

// The engine stands without Lua: a copy of the tree without the folders of LuaBindings, LuaRuntime and qlora-run and of
// their tests is a package of what is left (Tests/engine-alone.sh builds and tests it).
func isPresent(_ target: Target) -> Bool {
  let folder = target.path ?? (target.type == .test ? "Tests/" : "Sources/") + target.name
  return FileManager.default.fileExists(atPath: Context.packageDirectory + "/" + folder)
}
package.targets.removeAll { !isPresent($0) }
package.products.removeAll { product in
  product.name == "qlora-run" && !package.targets.contains { $0.name == "qlora-run" }
}
