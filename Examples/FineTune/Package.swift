// swift-tools-version: 6.2
import PackageDescription

let package = Package(
  name: "FineTune",
  dependencies: [.package(name: "qlora", path: "../..")],
  targets: [
    .executableTarget(name: "FineTune", dependencies: [.product(name: "QLoRA", package: "qlora")])
  ])
