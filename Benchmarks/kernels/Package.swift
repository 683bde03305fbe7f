// swift-tools-version: 6.2
import PackageDescription

let package = Package(
  name: "kernel-benchmarks",
  dependencies: [.package(name: "qlora", path: "../..")],
  targets: [
    .executableTarget(
      name: "kernel-bench", dependencies: [.product(name: "QLoRA", package: "qlora")],
      // The bandwidth limits are loops of this program.
      swiftSettings: [.unsafeFlags(["-Xcc", "-march=native", "-enforce-exclusivity=unchecked"])])
  ],
  swiftLanguageModes: [.v6])
