import Foundation

/// Checks the kit's package, or its asset, on every compute unit of this device, times what passed, and writes the report.
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
        let prepared = try changed.isEmpty ? prepare(folder) : nil
        defer {
            if let prepared = prepared {
                try? FileManager.default.removeItem(at: prepared)
            }
        }
        for unit in units where !journal.has(unit.rawValue) {
            try journal.begin(unit.rawValue)
            let result: UnitReport
            if let prepared = prepared {
                result = await check(unit, prepared: prepared)
            } else {
                let reason = "not the kit that was written: \(changed.joined(separator: ", "))"
                result = UnitReport(unit: unit.rawValue, status: .refused, reason: reason)
            }
            try journal.finish(result)
            told(result)
        }
        return journal.report
    }

    /// One unit. An error that the framework raises is told as one that did not come back.
    private func check(_ unit: ComputeUnit, prepared: URL) async -> UnitReport {
        do {
            let loaded = try await LoadedModel(kit: folder.kit, prepared: prepared, unit: unit)
            var result = try await compare(unit, loaded: loaded)
            await loaded.describe(&result)
            return result
        } catch {
            return UnitReport(unit: unit.rawValue, status: .crashed, reason: "\(error.localizedDescription)")
        }
    }

    /// Outputs first, then the verdict on them, and only then the clock.
    private func compare(_ unit: ComputeUnit, loaded: LoadedModel) async throws -> UnitReport {
        var outputs: [[Float]] = []
        for example in folder.kit.cases {
            let feed = try loaded.feed(try folder.bytes(example.input))
            outputs.append(try await loaded.logits(feed))
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
        result.jpeg = try loaded.picture(folder)
        if let first = folder.kit.cases.first {
            let feed = try loaded.feed(try folder.bytes(first.input))
            result.timing = try await measure(folder.kit.timing) { try await loaded.once(feed) }
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
