// swift-tools-version: 6.2
import PackageDescription

let package = Package(
  name: "kernel-benchmarks",
  dependencies: [.package(name: "qlora", path: "../..")],
  targets: [
    .executableTarget(name: "matmul-bench", dependencies: [.product(name: "QLoRA", package: "qlora")])
  ],
  swiftLanguageModes: [.v6])
