import Models

extension LanguageModel {
  /// LoRA adapters of one shape on every chosen linear module; by default on all of the decoder layers, which is
  /// QLoRA's choice (Dettmers et al. 2023, section 4).
  /// - Parameters:
  ///   - rank: 1 to 65536.
  ///   - alpha: above 0; the branch is scaled by alpha / rank.
  ///   - dropout: probability in [0, 1).
  ///   - isChosen: asked of the linear modules.
  /// - Returns: the number of trainable parameters added.
  /// - Throws: `AdapterError.nothingSelected`; as `attach`.
  @discardableResult
  public func attachLoRA(
    rank: Int, alpha: Double, dropout: Double = 0, where isChosen: (Module) -> Bool = { $0.layer != nil }
  ) throws -> Int {
    let chosen = modules.filter { $0.kind == .linear && isChosen($0) }
    guard !chosen.isEmpty else { throw AdapterError.nothingSelected }
    return try attach(chosen.map { ($0.name, LoRA(rank: rank, alpha: alpha, dropout: dropout)) })
  }
}
