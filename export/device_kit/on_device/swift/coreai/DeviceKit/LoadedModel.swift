import CoreAI
import Dispatch
import Foundation

let framework = "Core AI"

/// What an app can ask Core AI for. A preference forbids nothing: what the preferred unit cannot do, another does.
public enum ComputeUnit: String, CaseIterable {
    case anyUnit = "default"
    case cpuOnly = "cpuOnly"
    case gpu = "gpu"
    case neuralEngine = "neuralEngine"

    public var options: SpecializationOptions {
        switch self {
        case .anyUnit: return SpecializationOptions.default
        case .cpuOnly: return SpecializationOptions.cpuOnly
        case .gpu: return SpecializationOptions(preferredComputeUnitKind: .gpu)
        case .neuralEngine: return SpecializationOptions(preferredComputeUnitKind: .neuralEngine)
        }
    }

    /// Those of this device. A simulator has no Neural Engine.
    public static var available: [ComputeUnit] {
        let kinds = ComputeUnitKind.availableKinds
        return allCases.filter { unit in
            switch unit {
            case .anyUnit, .cpuOnly: return true
            case .gpu: return kinds.contains(.gpu)
            case .neuralEngine: return kinds.contains(.neuralEngine)
            }
        }
    }
}

/// A copy of the asset, outside of the bundle: what Core AI compiles may be kept in it, and is no part of the kit. Not
/// in the temporary folder, whose path goes through a symbolic link on a Mac.
func prepare(_ folder: KitFolder) throws -> URL {
    let manager = FileManager.default
    let caches = try manager.url(for: .cachesDirectory, in: .userDomainMask, appropriateFor: nil, create: true)
    let copy = caches.appendingPathComponent("device-kit-\(UUID().uuidString).aimodel", isDirectory: true)
    try manager.copyItem(at: folder.packageURL, to: copy)
    return copy
}

/// The asset on one compute unit.
struct LoadedModel {
    let kit: Kit
    let options: SpecializationOptions
    let function: InferenceFunction

    init(kit: Kit, prepared: URL, unit: ComputeUnit) async throws {
        self.kit = kit
        options = unit.options
        let model = try await AIModel(contentsOf: prepared, options: options)
        guard let main = try model.loadFunction(named: "main") else {
            throw KitError("the asset has no function 'main'")
        }
        function = main
    }

    /// What the function takes for a case's raw bytes: float32 in C order.
    func feed(_ raw: Data) throws -> NDArray {
        let values = decodeFloats(raw)
        guard raw.count == values.count * MemoryLayout<Float>.size, values.count == kit.input.shape.reduce(1, *) else {
            throw KitError("\(raw.count) bytes are no tensor of shape \(kit.input.shape)")
        }
        return NDArray(scalars: values, shape: kit.input.shape)
    }

    func logits(_ input: NDArray) async throws -> [Float] {
        var outputs = try await function.run(inputs: [kit.input.name: input])
        guard let array = outputs.remove(kit.output.name)?.ndArray else {
            throw KitError("the asset has no output '\(kit.output.name)' that is an array")
        }
        return try classLogits(array, classes: kit.model.classes)
    }

    /// Nanoseconds of one run.
    func once(_ input: NDArray) async throws -> Int {
        let start = DispatchTime.now().uptimeNanoseconds
        _ = try await function.run(inputs: [kit.input.name: input])
        return nanoseconds(since: start)
    }

    /// An asset takes tensors, so there is none.
    func picture(_ folder: KitFolder) throws -> PictureReport? {
        nil
    }

    /// What the report says of the unit beside its outputs.
    func describe(_ result: inout UnitReport) async {
        result.specialization = SpecializationReport(
            runtime: "system",
            allowed: options.allowedComputeUnitKinds.map { String(describing: $0) }.sorted(),
            preferred: options.preferredComputeUnitKind.map { String(describing: $0) }
        )
    }
}

/// (1, classes) float32, whatever its strides are.
func classLogits(_ array: NDArray, classes: Int) throws -> [Float] {
    guard array.scalarType == .float32, array.shape == [1, classes] else {
        throw KitError("the asset returned \(array.scalarType) of shape \(array.shape), where (1, \(classes)) is expected")
    }
    var logits = [Float](repeating: .nan, count: classes)
    array.view(as: Float.self).withUnsafePointer { pointer, _, strides in
        for position in 0..<classes {
            logits[position] = pointer[position * strides[1]]
        }
    }
    return logits
}
