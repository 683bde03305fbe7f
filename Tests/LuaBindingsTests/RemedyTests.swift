import Adapters
import Formats
import LuaRuntime
import Models
import Tensors
import Testing
import Training

@testable import LuaBindings

/// What a Lua program reads is what the engine says and what can be done about it, in Lua's or the shell's words.
@Suite struct RemedyTests {
  private static let cases: [(error: any Error & Sendable, text: String)] = [
    (TensorError.badIndex(operation: "gather", index: 2, count: 2), "gather: index 3 is outside 1..2"),
    (
      ModelError.unrecognisedPath(path: "qwen3-9b"),
      "qwen3-9b: not a model; expected a directory with config.json, a .gguf file or a hub name in the local cache "
        + "(--plan knows qwen3-4b by name)"
    ),
    (
      ModelError.unrecognisedPath(path: "my/folder"),
      "my/folder: not a model; expected a directory with config.json, a .gguf file or a hub name in the local cache"
    ),
    (
      ModelError.unrecognisedPath(path: "my/d.JSONL"),
      "my/d.JSONL: not a model; expected a directory with config.json, a .gguf file or a hub name in "
        + "the local cache; by its name it holds records, which qlora.data.load reads (--data of "
        + "qlora-run train and eval)"
    ),
    (
      ModelError.unrecognisedPath(path: "my/config.json"),
      "my/config.json: not a model; expected a directory with config.json, a .gguf file or a hub name "
        + "in the local cache"
    ),
    (
      TensorError.badDimension(operation: "select", dimension: 1, rank: 1),
      "select: dimension 2 does not exist, the tensor has 1"
    ),
    (
      BindingError.badIndex(operation: "index", index: 0, count: 2),
      "index: index 0 is outside 1..2; tensors count from 1, as Lua does"
    ),
    (BindingError.badIndex(operation: "index", index: -3, count: 2), "index: index -3 is outside 1..2"),
    (
      TensorError.dtypeMismatch(operation: "cat", lhs: .f32, rhs: .bf16),
      "cat: dtypes differ: f32 and bf16; convert one with :to(\"f32\")"
    ),
    (
      TensorError.outOfMemory(byteCount: 3 << 20, used: 2 << 20, limit: 4 << 20),
      "out of memory: 3.00 MiB asked for, 2.00 MiB in use by the whole process, the limit is 4.00 "
        + "MiB (--memory, or the machine's); lower micro_batch or max_length, set checkpointing = true, page the "
        + "optimizer (paged = true, a smaller budget) or load with stream = true; qlora-run --plan shows what each "
        + "would change"
    ),
    (
      TensorError.outOfMemory(byteCount: 3 << 20, used: 0, limit: nil),
      "out of memory: the system has no 3.00 MiB left (0 B in use); lower micro_batch or max_length, set "
        + "checkpointing = true, page the optimizer (paged = true, a smaller budget) or load with stream = true; "
        + "qlora-run --plan shows what each would change"
    ),
    (
      TensorError.noGraph(operation: "backward"),
      "backward: this tensor was not computed from anything that wants a gradient; set requires_grad = true on what "
        + "shall get one"
    ),
    (
      TensorError.inPlaceOnGraph(operation: "add_"),
      "add_: in-place change of a tensor that takes part in a gradient computation; use the form without _"
    ),
    (
      TensorError.spillFailed(content: .optimizerState, path: "d", operation: .create, code: 13),
      "cannot create a spill file for optimizer state in d: Permission denied; set spill to a directory that can be "
        + "written and has room"
    ),
    (
      TensorError.spillFailed(content: .activations, path: "d", operation: .write, code: 28),
      "cannot write activations to the spill file in d: No space left on device; what is in memory is unharmed: free "
        + "space there, or set offload to a directory on another disk, and go on from the last checkpoint with "
        + "--resume, or start again where there is none"
    ),
    (
      TensorError.spillFailed(content: .activations, path: "d", operation: .read, code: 5),
      "cannot read activations from the spill file in d: Input/output error; if the disk fails, set offload to a "
        + "directory on another one, and go on from the last checkpoint with --resume, or start again where there is "
        + "none"
    ),
    (
      TensorError.spillDamaged(content: .activations, path: "d", offset: 7),
      "the spill file in d does not give back at offset 7 what was written there (activations): it was cut short or "
        + "changed while running; go on from the last checkpoint with --resume, or start again where there is none"
    ),
    (
      TensorError.noThread(code: 11),
      "the system gives no thread for reading and writing (Resource temporarily unavailable); end other programs or "
        + "raise the limit (ulimit -u)"
    ),
    (
      ModelError.headerOnly(operation: "loss"),
      "loss: the model was read from its header only; load the weights to compute (--plan and header_only = true leave "
        + "them out)"
    ),
    (
      ModelError.tooLong(tokens: 9, limit: 8),
      "9 tokens are more than the model's 8 positions; shorten the input or lower max_length"
    ),
    (
      ModelError.cannotStream(path: "m"),
      "m: streaming leaves the base on disk as it is stored, and these weights are not stored in the "
        + "form they are used in; run `qlora-run quantize.lua IN OUT` once and load OUT with stream = true"
    ),
    (
      ModelError.streamedNeedsCheckpointing,
      "checkpointing is off: a streamed model recomputes its layers in the backward pass, so that they are read in "
        + "order; set checkpointing = true, or load without stream = true"
    ),
    (
      ModelError.streamedInterval(layers: 4),
      "checkpointing of 4 layers together: a streamed base has one layer in memory at a time, so layers are recomputed "
        + "one by one; set checkpointing = true, and offload = true to keep fewer activations, or stream = false"
    ),
    (
      ModelError.noOriginalWeights(path: "m", problem: .nothingQuantized),
      "quantization error: m: no module is quantized; load with { quant = \"nf4\" } or \"fp4\""
    ),
    (
      ModelError.noOriginalWeights(path: "m", problem: .notQuantized(module: "a")),
      "quantization error: m: a is not quantized"
    ),
    (
      AdapterError.alreadyAttached(module: "a"),
      "a: already has an adapter; call model:remove_adapters() first, or give the new adapter a name of its own"
    ),
    (
      AdapterError.alreadyAttached(module: "a", set: "poems"),
      "a: already has an adapter called 'poems'; call model:remove_adapters \"poems\" first, or give the new adapter a "
        + "name of its own"
    ),
    (
      AdapterError.unknownTensor(path: "a/adapter_model.safetensors", name: "b"),
      "a/adapter_model.safetensors: tensor 'b' belongs to no module of this model; most likely the adapter is one of "
        + "another model: load it on that which base_model_name_or_path in its adapter_config.json names"
    ),
    (AdapterError.nothingToSave, "the model has no adapters to save; call model:add_lora first"),
    (
      AdapterError.notAnAdapter(path: "a"),
      "a: not an adapter; expected a folder with adapter_config.json, as PEFT writes it; model:save_adapter writes one"
    ),
    (
      AdapterError.notAnAdapter(path: "a", inside: ["a/one", "a/two"]),
      "a: not an adapter; expected a folder with adapter_config.json, as PEFT writes it; there is one in a/one, a/two, "
        + "which can be named"
    ),
    (
      AdapterError.otherVocabulary(path: "a", module: "lm_head", rows: 13, base: 10, unties: false),
      "a: the adapter has 13 rows of lm_head and the base 10: it was made after tokens were added to the base "
        + "(resize_token_embeddings); resize the base as it was then, and load the adapter on that: in transformers "
        + "base.resize_token_embeddings(13), base.save_pretrained(DIR), and save the adapter's tokenizer to DIR"
    ),
    (
      AdapterError.otherVocabulary(path: "a", module: "lm_head", rows: 10, base: 13, unties: false),
      "a: the adapter has 10 rows of lm_head and the base 13: it was made before tokens were added to "
        + "the base, or after some were taken away (resize_token_embeddings); resize the base as it was then, and load "
        + "the adapter on that: in transformers base.resize_token_embeddings(10), base.save_pretrained(DIR), and save "
        + "the adapter's tokenizer to DIR"
    ),
    (
      AdapterError.otherFamily(path: "a", field: "b", type: "olmo2", model: "qwen2"),
      "a: the adapter was made for the family olmo2, as b says, and this model is of the family qwen2; load it on the "
        + "model that it was made for, which its adapter_config.json names, or train one for this model"
    ),
    (
      AdapterError.notLinear(module: "a", kind: "embedding"),
      "a: an adapter needs a linear module, and this one is of the kind embedding"
    ),
    (
      AdapterError.notLoRA(set: "s", module: "a", method: "ia3"),
      "a: 's' is of the kind ia3; only plain LoRA adapters can be combined"
    ),
    (
      AdapterError.notAdditive(set: "s", module: "a", method: "ia3"),
      "a: 's' is of the kind ia3, which changes the weight or the output as a whole; it cannot be used together with "
        + "others"
    ),
    (
      AdapterError.tiedOutput(path: "a", tensor: "b", unties: true),
      "a: b takes the place of a matrix that is embedding and output matrix at once in this base "
        + "(tie_word_embeddings); merge the adapter in transformers and load DIR: base = "
        + "AutoModelForCausalLM.from_pretrained(BASE, tie_word_embeddings=False), PeftModel.from_pretrained(base, "
        + "ADAPTER).merge_and_unload().save_pretrained(DIR), and save the tokenizer to DIR"
    ),
    (
      TrainingError.changed(checkpoint: "c", [], unfit: ["adapters"]),
      "c: the run could not go on: ; what the checkpoint holds does not fit other adapters; put it back, "
        + "or start a run of its own without --resume"
    ),
    (
      FormatError.unsupportedFile(path: "a/d.parquet", ending: "parquet", supported: ["json", "txt"]),
      "a/d.parquet: files that end in .parquet cannot be read; supported: json, txt; `python3 -c 'import pandas, sys; "
        + "pandas.read_parquet(sys.argv[1]).to_json(\"out.jsonl\", "
        + "orient=\"records\", lines=True)' a/d.parquet` writes out.jsonl"
    ),
    (
      FormatError.unsupportedFile(path: "my d.jsonl.gz", ending: "gz", supported: ["json"]),
      "my d.jsonl.gz: files that end in .gz cannot be read; supported: json; unpack it: gunzip -k 'my d.jsonl.gz'"
    ),
    (
      FormatError.unsupportedModel(
        path: "c", field: "quantization_config.quant_method", value: "\"gptq\"", supported: ["\"bitsandbytes\""]),
      "c: quantization_config.quant_method \"gptq\" is not supported; supported: \"bitsandbytes\"; give the model in "
        + "16 bits, which quant = \"nf4\" makes smaller, or a .gguf file"
    ),
    (
      FormatError.unsupportedModel(path: "c", field: "quantization", value: "{\"bits\": 4}", supported: ["null"]),
      "c: quantization {\"bits\": 4} is not supported; supported: null; give the model in 16 bits, which "
        + "quant = \"nf4\" makes smaller, or a .gguf file"
    ),
    (
      FormatError.unsupportedFile(path: "d.pdf", ending: "pdf", supported: ["json"]),
      "d.pdf: files that end in .pdf cannot be read; supported: json"
    ),
    (
      FormatError.notCached(name: "a/b", looked: ["x", "y"]),
      "model a/b is not on this machine: no folder of this name, and nothing in the cache; looked in x, y. Fetch it "
        + "with `qlora-run fetch a/b`, or give a folder or a .gguf file"
    ),
  ]

  @Test(arguments: cases.indices) func errorsAreWordedForLua(index: Int) throws {
    let (error, text) = Self.cases[index]
    let (state, _) = try makeState()
    defer { state.close() }
    state.globals["fail"] = state.function { _, _ in throw error }
    let chunk = try state.load(Array("return select(2, pcall(fail))".utf8), chunkName: "=test")
    let got = try #require(try chunk.call().first?.asString)
    #expect(got == "test:1: " + text)
  }
}
