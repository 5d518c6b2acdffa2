import Foundation

/// The distance of the logits from the reference's, over what the kit says that it is relative to. NaN stays NaN.
func relativeError(_ logits: [Float], _ reference: [Float], scale: Double) -> Double {
    guard logits.count == reference.count, !reference.isEmpty else { return .nan }
    var distance = 0.0
    for (got, right) in zip(logits, reference) {
        let difference = Double(got) - Double(right)
        distance += difference * difference
    }
    return distance.squareRoot() / scale
}

/// The cases that are not within the unit's budget, in words. A probe has no reference here, but must be finite.
func overBudget(_ folder: KitFolder, unit: String, outputs: [[Float]]) throws -> [String] {
    guard let budgets = folder.kit.budgets[unit] else {
        throw KitError("the kit has no budgets for \(unit)")
    }
    var over: [String] = []
    for (example, logits) in zip(folder.kit.cases, outputs) {
        guard let path = example.logits, let scale = example.scale else {
            if !logits.allSatisfy(\.isFinite) {
                over.append("\(example.name): logits that are no numbers")
            }
            continue
        }
        let error = relativeError(logits, try folder.floats(path), scale: scale)
        let budget = budgets[example.kind] ?? -1
        // Not `error > budget`: what is no number must not pass.
        if !(error <= budget) {
            over.append(String(format: "%@: %.2e > %.2e", example.name, error, budget))
        }
    }
    return over
}
