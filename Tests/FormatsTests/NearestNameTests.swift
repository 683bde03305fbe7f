import Testing

@testable import Formats

@Suite struct NearestNameTests {
  @Test(arguments: [
    ("bacth", "batch"), ("RANK", "rank"), ("rnk", "rank"), ("q_proj", "model.layers.0.self_attn.q_proj"),
    ("learning_rate_of_all", "learning_rate"), ("gradient_acumulaton", "gradient_accumulation"),
  ])
  func slipsAndPartsAreNear(word: String, wanted: String) {
    let names = ["gradient_accumulation", "batch", "rank", "model.layers.0.self_attn.q_proj", "learning_rate"]
    #expect(nearestName(to: word, among: names) == wanted)
  }

  @Test(arguments: ["", "zzzzzz", "rk", "btc", "ankr_", "ra", "proj_of"])
  func whatIsNoSlipHasNone(word: String) {
    #expect(nearestName(to: word, among: ["batch", "rank", "q_proj"]) == nil)
  }

  @Test func nearestComesFirst() {
    let names = ["ranks", "tank", "rank", "bank_of"]
    #expect(nearestNames(to: "rank", among: names, count: 3) == ["rank", "ranks", "tank"])
    #expect(didYouMean("rank") == " (did you mean \"rank\"?)" && didYouMean(nil).isEmpty)
    #expect(didYouMean("serve", "the command ") == " (did you mean the command \"serve\"?)")
  }
}
