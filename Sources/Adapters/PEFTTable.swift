import Formats

/// The keys of adapter_config.json for LoRA: those of PEFT 0.21.2 (PeftConfig and LoraConfig).
package enum PEFTTable {
  /// What every method's file has.
  static let common = [
    row(["peft_type", "target_modules"], .honoured),
    row(["exclude_modules", "modules_to_save", "auto_mapping", "base_model_name_or_path"], .nullable),
    row(["task_type"], .only([.null, "CAUSAL_LM"], "other tasks add a head")),
    row(["fan_in_fan_out"], .only([.null, false], "weights are [out, in]")),
    row(["peft_version", "revision"], .harmless("notes about where the adapter comes from")),
    row(["inference_mode"], .harmless("whether it is trained further is said when it is loaded")),
  ]

  package static let table = FieldTable(
    common + [
      row(["r", "lora_alpha"], .honoured),
      row(
        [
          "lora_dropout", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "target_parameters",
          "trainable_token_indices", "ensure_weight_tying",
        ], .nullable),
      row(["layers_to_transform", "layers_pattern"], .nullable),

      row(
        ["init_lora_weights"],
        .only(
          [.null, true, false, "gaussian", "orthogonal", "eva"],
          "the others change the base weights as PEFT loads them, or compute something else; "
            + "convert the adapter (PEFT: save_pretrained with "
            + "path_initial_model_for_weight_conversion), which sets it to true")),
      row(["bias"], .only([.null, "none", "all", "lora_only"], "no other words are known")),
      row(["layer_replication"], .only([.null, []], "layers that are there twice")),
      row(["use_qalora", "lora_bias"], .only([.null, false], "another arithmetic")),
      row(
        [
          "velora_config", "alora_invocation_tokens", "monteclora_config", "use_bdlora", "arrow_config", "kasa_config",
        ], .only([.null, false], "another arithmetic")),
      row(["megatron_config"], .only([.null], "layers of Megatron")),

      row(
        ["loftq_config", "eva_config", "corda_config", "lora_ga_config"],
        .harmless("read only while an adapter is made, by the init_lora_weights of that name")),
      row(["megatron_core", "qalora_group_size"], .harmless("counts only with megatron_config or use_qalora")),
      row(["runtime_config"], .harmless("how PEFT computes the same numbers")),
    ], unknown: .refused)

  private static func row(_ keys: [String], _ decision: FieldDecision) -> FieldTable.Row {
    FieldTable.Row(keys, decision)
  }
}
