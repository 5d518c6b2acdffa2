import CoreML
import Foundation

/// How many operations prefer which device; nil where the system (before iOS 17.4, macOS 14.4) does not say.
func computePlan(compiled: URL, unit: ComputeUnit) async -> ComputePlanReport? {
    // The first compiler whose SDK has MLComputePlan.
    #if compiler(>=5.10)
    guard #available(iOS 17.4, macOS 14.4, *), let units = unit.coreML else { return nil }
    let configuration = MLModelConfiguration()
    configuration.computeUnits = units
    guard let plan = try? await MLComputePlan.load(contentsOf: compiled, configuration: configuration),
        case .program(let program) = plan.modelStructure,
        let main = program.functions["main"]
    else { return nil }
    var preferred: [String: Int] = [:]
    for operation in main.block.operations {
        // Constants run nowhere.
        guard let usage = plan.deviceUsage(for: operation) else { continue }
        preferred[name(of: usage.preferred), default: 0] += 1
    }
    return ComputePlanReport(operations: preferred.values.reduce(0, +), preferred: preferred)
    #else
    return nil
    #endif
}

#if compiler(>=5.10)
@available(iOS 17.4, macOS 14.4, *)
private func name(of device: MLComputeDevice) -> String {
    switch device {
    case .cpu: return "CPU"
    case .gpu: return "GPU"
    case .neuralEngine: return "NeuralEngine"
    @unknown default: return "unknown"
    }
}
#endif
