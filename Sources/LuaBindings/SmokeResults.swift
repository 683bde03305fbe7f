import Formats

/// Results of a run with `--smoke` lie beside those of a real run, which stay; so do its run directories.
extension Engine {
  /// Where a folder of results is written: under `--smoke` `out/adapter-smoke` for `out/adapter`, which is said.
  func placeToSave(folder path: String) -> String { said(path, smokePlace(folder: path)) }

  /// The same for a file: `map-smoke.safetensors` for `map.safetensors`.
  func placeToSave(file path: String) -> String { said(path, smokePlace(file: path)) }

  /// Where results are read: under `--smoke` what a smoke run saved goes before.
  func placeToRead(folder path: String) -> String { found(path, smokePlace(folder: path)) }
  func placeToRead(file path: String) -> String { found(path, smokePlace(file: path)) }

  private func smokePlace(folder path: String) -> String {
    var path = path[...]
    while path.count > 1, path.hasSuffix("/") { path.removeLast() }
    return path + "-smoke"
  }

  private func smokePlace(file path: String) -> String {
    let name = path.split(separator: "/", omittingEmptySubsequences: false).last ?? ""
    guard let dot = name.lastIndex(of: "."), dot > name.startIndex else { return path + "-smoke" }
    return path[..<dot] + "-smoke" + path[dot...]
  }

  private func said(_ path: String, _ place: String) -> String {
    guard options.smoke else { return path }
    Warnings.show("--smoke: saved in \(place), so that \(path) stays as it is")
    return place
  }

  private func found(_ path: String, _ place: String) -> String {
    options.smoke && FileSystem.exists(place) ? place : path
  }
}
