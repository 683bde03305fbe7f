import Adapters
import Formats
import LuaRuntime
import Models
import Tensors
import Training

/// What a recipe or the command line can do about an error of the engine, which says what happened and where but knows
/// neither. One line per case; a case that is not here needs no remedy, or none in those words.
enum Remedy {
  /// An error as Lua programs read it: the engine's words and the remedy. Lua counts from 1, the engine from 0.
  static func words(for error: any Error) -> String {
    switch error {
    case TensorError.badIndex(let operation, let index, let count):
      "\(BindingError.badIndex(operation: operation, index: index &+ 1, count: count))"
    case TensorError.badDimension(let operation, let dimension, let rank):
      "\(BindingError.badDimension(operation: operation, dimension: dimension &+ 1, rank: rank))"
    case let limit as LuaLimit: limit.words(size: byteText) + text(limit)
    default: "\(error)" + text(for: error)
    }
  }

  /// What follows the engine's words, with the sign that joins it; empty for an error without a remedy.
  private static func text(for error: any Error) -> String {
    switch error {
    case let error as TensorError: text(error)
    case let error as ModelError: text(error)
    case let error as AdapterError: text(error)
    case let error as FormatError: text(error)
    case let error as TrainingError: text(error)
    default: ""
    }
  }

  private static func text(_ error: TensorError) -> String {
    switch error {
    case .dtypeMismatch(_, let lhs, _): "; convert one with :to(\"\(lhs.name)\")"
    case .outOfMemory(_, _, let limit):
      (limit == nil ? "" : " (--memory, or the machine's)")
        + "; lower micro_batch or max_length, set checkpointing = true, page the optimizer (paged = true, a smaller "
        + "budget) or load with stream = true; qlora-run --plan shows what each would change"
    case .noGraph: "; set requires_grad = true on what shall get one"
    case .inPlaceOnGraph: "; use the form without _"
    case .changedInPlace: "; use the form without _, or change it after backward"
    case .spillFailed(let content, _, .create, _):
      "; set \(option(content)) to a directory that can be written and has room"
    case .spillFailed(let content, _, .write, _):
      ": free space there, or set \(option(content)) to a directory on another disk, and " + wayOn
    case .spillFailed(let content, _, .read, _):
      "; if the disk fails, set \(option(content)) to a directory on another one, and " + wayOn
    case .spillDamaged: "; " + wayOn
    case .noThread: "; end other programs or raise the limit (ulimit -u)"
    default: ""
    }
  }

  /// After what ended a run, which may not have come to a checkpoint.
  private static let wayOn = "go on from the last checkpoint with --resume, or start again where there is none"

  /// The option that names another directory for what is spilled.
  private static func option(_ content: SpillContent) -> String {
    switch content {
    case .optimizerState: "spill"
    case .activations: "offload"
    }
  }

  private static func text(_ error: ModelError) -> String {
    switch error {
    case .adaptersAttached:
      "; call model:merge() first, or model:save_adapter to save them apart (in model:without_adapters the base alone "
        + "is saved)"
    case .notInGGUF: "; model:save(directory) writes a Hugging Face folder"
    case .headerOnly: " (--plan and header_only = true leave them out)"
    case .tooLong: " or lower max_length"
    case .unrecognisedPath(let path): records(path) ?? known(like: path)
    case .nothingToKeep:
      "; leave quant out to train on the weights as they are, set quant = \"nf4\", or give a .gguf file"
    case .cannotStream(let path):
      (path.hasSuffix(".gguf") ? "; load with quant = \"keep\", or" : ";")
        + " run `qlora-run quantize.lua IN OUT` once and load OUT with stream = true"
    case .streamedNeedsCheckpointing: "; set checkpointing = true, or load without stream = true"
    case .streamedInterval:
      "; set checkpointing = true, and offload = true to keep fewer activations, or stream = false"
    case .fewLayers: "; start fewer, or load without pipeline = true"
    case .staged("loss", _): "; model:accumulate(batches) takes the place of loss and backward"
    case .staged: "; load the model without pipeline = true for it, after training with the saved adapter"
    case .noOriginalWeights(_, .storedQuantized), .noOriginalWeights(_, .kept), .noOriginalWeights(_, .notFromFile):
      "; name the folder with the 16-bit weights, original = DIRECTORY, or take target = \"dequantized\""
    case .noOriginalWeights(_, .nothingQuantized): "; load with { quant = \"nf4\" } or \"fp4\""
    default: ""
    }
  }

  /// A published model whose name is nearly this one.
  private static func known(like name: String) -> String {
    let last = String(name.lowercased().split(separator: "/").last ?? "")
    return nearestName(to: last, among: Families.publishedNames).map { " (--plan knows \($0) by name)" } ?? ""
  }

  /// Who reads a file that holds records by its name; nil for another.
  private static func records(_ path: String) -> String? {
    let name = FileSystem.baseName(path).lowercased()
    guard Records.endings.contains(where: { name.hasSuffix("." + $0) }), !name.hasSuffix(FileName.config) else {
      return nil
    }
    return "; by its name it holds records, which qlora.data.load reads (--data of qlora-run train and eval)"
  }

  private static func text(_ error: AdapterError) -> String {
    switch error {
    case .alreadyAttached(_, let set):
      "; call model:remove_adapters\(set.map { " \"\($0)\"" } ?? "()") first, or give the new adapter a name of its own"
    case .mixedMethods, .mixedScaling: "; give the second adapter a name of its own: name = \"other\""
    case .severalInUse: "; give name = to save one, or combine them with model:combine_adapters"
    case .othersWouldBeLeft: "; remove them with model:remove_adapters(NAME) first"
    case .missingTensor, .unknownTensor, .shapeMismatch:
      "; most likely the adapter is one of another model: load it on that which base_model_name_or_path in its "
        + "adapter_config.json names"
    case .otherFamily:
      "; load it on the model that it was made for, which its adapter_config.json names, or train one for this model"
    case .nothingToSave: "; call model:add_lora first"
    case .notLowRank: "; save it as PEFT does, or model:merge() and save the model"
    case .notAnAdapter(_, let inside): inside.isEmpty ? "; model:save_adapter writes one" : ", which can be named"
    case .otherVocabulary(_, _, let rows, _, false):
      "; resize the base as it was then, and load the adapter on that: in transformers "
        + "base.resize_token_embeddings(\(rows)), base.save_pretrained(DIR), and save the adapter's tokenizer to DIR"
    case .otherVocabulary(_, _, let rows, _, true):
      "; " + mergeThere(unties: true, "base.resize_token_embeddings(\(rows)), ")
    case .tiedOutput(_, _, let unties): "; " + mergeThere(unties: unties, "")
    case .outputAlone: "; " + mergeThere(unties: true, "")
    case .needsDefinition:
      "; read it, then load it with model:load_adapter_module(DIR, { parameters = …, forward = … })"
    case .notScripted: "; model:add_adapter reads it"
    case .otherDefinition: "; compare them with that file, which returns the definition it was made by"
    case .otherInSet: "; give the new adapter a name of its own"
    default: ""
    }
  }

  /// How an adapter is merged that this program cannot put on the base.
  private static func mergeThere(unties: Bool, _ resize: String) -> String {
    "merge the adapter in transformers and load DIR: base = AutoModelForCausalLM.from_pretrained(BASE"
      + (unties ? ", tie_word_embeddings=False" : "") + "), \(resize)PeftModel.from_pretrained(base, "
      + "ADAPTER).merge_and_unload().save_pretrained(DIR), and save the tokenizer to DIR"
  }

  private static func text(_ error: FormatError) -> String {
    switch error {
    case .notCached(let name, _):
      ". Fetch it with `qlora-run fetch \(name)`, or give a folder or a .gguf file" + known(like: name)
    case .unsupportedModel(_, "init_lora_weights", _, _):
      ": PEFT changes the base for the others; save the adapter with save_pretrained(DIR, "
        + "path_initial_model_for_weight_conversion = INITIAL), which writes true"
    case .unsupportedModel(_, let field, _, _) where isOfStoredForm(field):
      "; give the model in 16 bits, which quant = \"nf4\" makes smaller, or a .gguf file"
    case .unknownField(_, let field, _):
      didYouMean(nearestName(to: field, among: ConfigTable.table.keys + PEFTTable.table.keys))
    case .unsupportedFile(let path, let ending, _): converted(path.shellWord, ending)
    default: ""
    }
  }

  /// Whether a key of config.json says in which form weights of few bits are stored.
  private static func isOfStoredForm(_ field: String) -> Bool {
    field.hasPrefix("quantization_config.") || ["quantization", "compression_config"].contains(field)
  }

  /// How a file of records, a word of the shell, gets a form that is read.
  private static func converted(_ path: String, _ ending: String) -> String {
    func python(_ reading: String) -> String {
      "; `python3 -c 'import pandas, sys; \(reading).to_json(\"out.jsonl\", orient=\"records\", lines=True)' \(path)` "
        + "writes out.jsonl"
    }
    switch ending {
    case "parquet": return python("pandas.read_parquet(sys.argv[1])")
    case "arrow", "feather": return python("pandas.read_feather(sys.argv[1])")
    case "xlsx", "xls": return python("pandas.read_excel(sys.argv[1])")
    case "gz": return "; unpack it: gunzip -k \(path)"
    case "zst": return "; unpack it: unzstd \(path)"
    case "xz": return "; unpack it: unxz -k \(path)"
    case "bz2": return "; unpack it: bunzip2 -k \(path)"
    case "zip": return "; unpack it: unzip \(path)"
    default: return ""
    }
  }

  private static func text(_ error: TrainingError) -> String {
    switch error {
    case .changed(_, let differences, let unfit):
      unfit.isEmpty
        ? "; put it back, or accept it with --accept-changed "
          + Array(Set(differences.compactMap(\.path.first))).sorted().joined(separator: ",")
        : "; put it back, or start a run of its own without --resume"
    case .fewMicroBatches: "; lower micro_batch, or parts (one a rank when not given)"
    case .partsOfRanks: "; start so many, or set parts to a multiple of the ranks"
    default: ""
    }
  }

  private static func text(_ error: LuaLimit) -> String {
    switch error {
    case .memory: " (--memory, or the machine's); drop what is not needed, or read and use data in parts"
    }
  }
}
