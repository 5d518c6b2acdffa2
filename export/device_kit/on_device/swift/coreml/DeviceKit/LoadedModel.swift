import CoreML
import CoreVideo
import Dispatch
import Foundation

let framework = "Core ML"

/// The package, compiled. Not in an async function: there `compileModel` would be its newer namesake, which iOS 15 hasn't.
func prepare(_ folder: KitFolder) throws -> URL {
    try MLModel.compileModel(at: folder.packageURL)
}

/// The compute units that this system can be asked for, by coremltools' names.
public enum ComputeUnit: String, CaseIterable {
    case cpuOnly = "CPU_ONLY"
    case cpuAndGPU = "CPU_AND_GPU"
    case cpuAndNeuralEngine = "CPU_AND_NE"
    case all = "ALL"

    /// Nil where the system is too old to ask for it.
    public var coreML: MLComputeUnits? {
        switch self {
        case .cpuOnly: return .cpuOnly
        case .cpuAndGPU: return .cpuAndGPU
        case .all: return .all
        case .cpuAndNeuralEngine:
            if #available(iOS 16.0, macOS 13.0, *) {
                return .cpuAndNeuralEngine
            }
            return nil
        }
    }

    public static var available: [ComputeUnit] {
        allCases.filter { $0.coreML != nil }
    }
}

/// The package on one compute unit.
struct LoadedModel {
    let kit: Kit
    let compiled: URL
    let unit: ComputeUnit
    let model: MLModel

    init(kit: Kit, prepared: URL, unit: ComputeUnit) async throws {
        guard let units = unit.coreML else {
            throw KitError("this system cannot be asked for \(unit.rawValue)")
        }
        let configuration = MLModelConfiguration()
        configuration.computeUnits = units
        self.kit = kit
        self.unit = unit
        compiled = prepared
        model = try MLModel(contentsOf: prepared, configuration: configuration)
    }

    /// What the model takes for a case's raw bytes.
    func feed(_ raw: Data) throws -> MLFeatureProvider {
        let value: MLFeatureValue
        if kit.input.kind == "image" {
            value = MLFeatureValue(pixelBuffer: try pixelBuffer(raw, shape: kit.input.shape))
        } else {
            value = MLFeatureValue(multiArray: try tensor(raw, shape: kit.input.shape))
        }
        return try MLDictionaryFeatureProvider(dictionary: [kit.input.name: value])
    }

    func logits(_ provider: MLFeatureProvider) throws -> [Float] {
        let answer = try model.prediction(from: provider)
        guard let array = answer.featureValue(for: kit.output.name)?.multiArrayValue else {
            throw KitError("the package has no output '\(kit.output.name)' that is an array")
        }
        return try classLogits(array, classes: kit.model.classes)
    }

    /// Nanoseconds of one run.
    func once(_ provider: MLFeatureProvider) throws -> Int {
        let start = DispatchTime.now().uptimeNanoseconds
        try autoreleasepool { _ = try model.prediction(from: provider) }
        return nanoseconds(since: start)
    }

    func picture(_ folder: KitFolder) throws -> PictureReport? {
        try PictureCheck(folder: folder, loaded: self, unit: unit).run()
    }

    /// What the report says of the unit beside its outputs.
    func describe(_ result: inout UnitReport) async {
        result.computePlan = await computePlan(compiled: compiled, unit: unit)
    }
}

/// (1, classes) or (classes,), whatever its strides and type are.
func classLogits(_ array: MLMultiArray, classes: Int) throws -> [Float] {
    guard array.count == classes, array.shape.last?.intValue == classes else {
        throw KitError("the package returned logits of shape \(array.shape), where \(classes) are expected")
    }
    var index = [NSNumber](repeating: 0, count: array.shape.count)
    return (0..<classes).map { position in
        index[index.count - 1] = NSNumber(value: position)
        return array[index].floatValue
    }
}

/// Raw R G B, (height, width, 3), as 32BGRA.
func pixelBuffer(_ raw: Data, shape: [Int]) throws -> CVPixelBuffer {
    guard shape.count == 3, shape[2] == 3, raw.count == shape[0] * shape[1] * 3 else {
        throw KitError("\(raw.count) bytes are no image of shape \(shape)")
    }
    let height = shape[0]
    let width = shape[1]
    var made: CVPixelBuffer?
    let attributes = [kCVPixelBufferIOSurfacePropertiesKey: [String: Any]()] as CFDictionary
    let status = CVPixelBufferCreate(nil, width, height, kCVPixelFormatType_32BGRA, attributes, &made)
    guard status == kCVReturnSuccess, let buffer = made else {
        throw KitError("no pixel buffer of \(width) x \(height): CVReturn \(status)")
    }
    CVPixelBufferLockBaseAddress(buffer, [])
    defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
    guard let base = CVPixelBufferGetBaseAddress(buffer) else {
        throw KitError("a pixel buffer without memory")
    }
    // Rows are padded to whole cache lines.
    let stride = CVPixelBufferGetBytesPerRow(buffer)
    let pixels = base.assumingMemoryBound(to: UInt8.self)
    raw.withUnsafeBytes { (source: UnsafeRawBufferPointer) in
        for row in 0..<height {
            for column in 0..<width {
                let from = 3 * (row * width + column)
                let to = row * stride + 4 * column
                pixels[to] = source[from + 2]
                pixels[to + 1] = source[from + 1]
                pixels[to + 2] = source[from]
                pixels[to + 3] = 255
            }
        }
    }
    return buffer
}

/// Raw float32 in C order.
func tensor(_ raw: Data, shape: [Int]) throws -> MLMultiArray {
    let array = try MLMultiArray(shape: shape.map { NSNumber(value: $0) }, dataType: .float32)
    guard raw.count == array.count * MemoryLayout<Float>.size else {
        throw KitError("\(raw.count) bytes are no tensor of shape \(shape)")
    }
    raw.withUnsafeBytes { (source: UnsafeRawBufferPointer) in
        if let base = source.baseAddress {
            array.dataPointer.copyMemory(from: base, byteCount: raw.count)
        }
    }
    return array
}
