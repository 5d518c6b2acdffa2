import CoreML
import Foundation

/// Checks the kit's package on every compute unit of this device, times what passed, and writes the report.
public struct DeviceCheck {
    public let folder: KitFolder
    public let reportURL: URL

    public init(folder: KitFolder, reportURL: URL = DeviceCheck.defaultURL) {
        self.folder = folder
        self.reportURL = reportURL
    }

    /// In the app's documents; for a test of a Mac, which has none, in the temporary folder.
    public static var defaultURL: URL {
        #if os(macOS)
        let place = FileManager.default.temporaryDirectory
        #else
        let documents = FileManager.default.urls(for: .documentDirectory, in: .userDomainMask).first
        let place = documents ?? FileManager.default.temporaryDirectory
        #endif
        return place.appendingPathComponent("device-report.json")
    }

    /// `told` hears of every unit as soon as it is done.
    public func run(told: @escaping (UnitReport) -> Void = { _ in }) async throws -> Report {
        let units = ComputeUnit.available
        var journal = Journal(url: reportURL, folder: folder, units: units.map(\.rawValue))
        journal.report.units.forEach(told)
        let changed = try folder.changedFiles()
        let compiled = try changed.isEmpty ? compile() : nil
        defer {
            if let compiled = compiled {
                try? FileManager.default.removeItem(at: compiled)
            }
        }
        for unit in units where !journal.has(unit.rawValue) {
            try journal.begin(unit.rawValue)
            let result: UnitReport
            if let compiled = compiled {
                result = await check(unit, compiled: compiled)
            } else {
                let reason = "not the kit that was written: \(changed.joined(separator: ", "))"
                result = UnitReport(unit: unit.rawValue, status: .refused, reason: reason)
            }
            try journal.finish(result)
            told(result)
        }
        return journal.report
    }

    /// Not in an async function: there `compileModel` would be its newer namesake, which iOS 15 hasn't.
    private func compile() throws -> URL {
        try MLModel.compileModel(at: folder.packageURL)
    }

    /// One unit. An error that Core ML raises is told as one that did not come back.
    private func check(_ unit: ComputeUnit, compiled: URL) async -> UnitReport {
        do {
            let loaded = try LoadedModel(kit: folder.kit, compiled: compiled, unit: unit)
            var result = try compare(unit, loaded: loaded)
            result.computePlan = await computePlan(compiled: compiled, unit: unit)
            return result
        } catch {
            return UnitReport(unit: unit.rawValue, status: .crashed, reason: "\(error.localizedDescription)")
        }
    }

    /// Outputs first, then the verdict on them, and only then the clock.
    private func compare(_ unit: ComputeUnit, loaded: LoadedModel) throws -> UnitReport {
        let outputs = try folder.kit.cases.map { example in
            try loaded.logits(try loaded.provider(try folder.bytes(example.input)))
        }
        var result = UnitReport(unit: unit.rawValue, status: .passed, reason: nil)
        result.cases = zip(folder.kit.cases, outputs).map { example, logits in
            CaseReport(name: example.name, logits: encodeFloats(logits))
        }
        let over = try overBudget(folder, unit: unit.rawValue, outputs: outputs)
        guard over.isEmpty else {
            result.status = .rejected
            result.reason = inShort(over)
            return result
        }
        result.jpeg = try PictureCheck(folder: folder, loaded: loaded, unit: unit).run()
        if let first = folder.kit.cases.first {
            let feed = try loaded.provider(try folder.bytes(first.input))
            result.timing = try measure(folder.kit.timing) { _ = try loaded.model.prediction(from: feed) }
        }
        return result
    }
}

/// The first few; the raw outputs hold the rest.
private func inShort(_ over: [String]) -> String {
    let named = 3
    let more = over.count > named ? ["and \(over.count - named) more"] : []
    return (over.prefix(named) + more).joined(separator: "; ")
}

/// One line of what was found, for the console and the screen.
public func summary(_ unit: UnitReport) -> String {
    var line = "\(unit.unit): \(unit.status.rawValue)"
    if let timing = unit.timing {
        line += String(format: ", %.3f ms median of %d", median(timing.samples) / 1e6, timing.samples.count)
    }
    if let jpeg = unit.jpeg {
        line += ", JPEG through \(jpeg.route) \(jpeg.status.rawValue)"
    }
    if let reason = unit.reason {
        line += " (\(reason))"
    }
    return line
}
