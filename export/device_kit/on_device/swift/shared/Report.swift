import Foundation

/// `device-report.json`. Every key is written, also where there is nothing to say: null.
public struct Report: Codable {
    public struct Tool: Codable {
        public let name: String
        public let version: String
        public let runtime: String
    }

    public struct Device: Codable {
        public let model: String
        public let os: String
        public let osBuild: String?
        public let chip: String?

        enum CodingKeys: String, CodingKey {
            case model
            case os
            case osBuild = "os_build"
            case chip
        }

        public func encode(to encoder: Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(model, forKey: .model)
            try container.encode(os, forKey: .os)
            try container.encode(osBuild, forKey: .osBuild)
            try container.encode(chip, forKey: .chip)
        }
    }

    public let schema: Int
    public let tool: Tool
    public let packageSHA256: String
    public let kitSHA256: String
    public let device: Device
    public var units: [UnitReport]

    enum CodingKeys: String, CodingKey {
        case schema
        case tool
        case packageSHA256 = "package_sha256"
        case kitSHA256 = "kit_sha256"
        case device
        case units
    }

    public init(folder: KitFolder) {
        schema = 1
        tool = Tool(name: "DeviceKit", version: folder.kit.version, runtime: "\(framework) of \(ThisDevice.os)")
        packageSHA256 = folder.kit.package.sha256
        kitSHA256 = folder.sha256
        device = Device(
            model: ThisDevice.model,
            os: ThisDevice.os,
            osBuild: ThisDevice.osBuild,
            chip: ThisDevice.chip
        )
        units = []
    }

    /// Every unit passed, and the picture too where it was tried.
    public var passed: Bool {
        !units.isEmpty && units.allSatisfy { $0.status == .passed && $0.jpeg?.status != .rejected }
    }
}

public enum Status: String, Codable {
    case passed
    case rejected
    case crashed
    case refused
}

public struct CaseReport: Codable {
    public let name: String
    /// Base64 of little-endian float32.
    public let logits: Data
}

public struct PictureReport: Codable {
    public let status: Status
    public let route: String
    public let logits: Data
}

public struct TimingReport: Codable {
    public let samples: [Int]
    public let warmUpRuns: Int
    public let thermalBefore: String?
    public let thermalAfter: String?

    enum CodingKeys: String, CodingKey {
        case samples = "samples_ns"
        case warmUpRuns = "warm_up_runs"
        case thermalBefore = "thermal_before"
        case thermalAfter = "thermal_after"
    }

    public func encode(to encoder: Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(samples, forKey: .samples)
        try container.encode(warmUpRuns, forKey: .warmUpRuns)
        try container.encode(thermalBefore, forKey: .thermalBefore)
        try container.encode(thermalAfter, forKey: .thermalAfter)
    }
}

public struct ComputePlanReport: Codable {
    public let operations: Int
    public let preferred: [String: Int]
}

/// What Core AI was allowed to use; it does not say what it used.
public struct SpecializationReport: Codable {
    /// `system`: Core AI of the operating system.
    public let runtime: String
    public let allowed: [String]
    public let preferred: String?

    public func encode(to encoder: Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(runtime, forKey: .runtime)
        try container.encode(allowed, forKey: .allowed)
        try container.encode(preferred, forKey: .preferred)
    }
}

public struct UnitReport: Codable {
    public let unit: String
    public var status: Status
    public var reason: String?
    public var cases: [CaseReport]
    public var jpeg: PictureReport?
    public var timing: TimingReport?
    public var computePlan: ComputePlanReport?
    /// Nil for Core ML.
    public var specialization: SpecializationReport?

    enum CodingKeys: String, CodingKey {
        case unit
        case status
        case reason
        case cases
        case jpeg
        case timing
        case computePlan = "compute_plan"
        case specialization
    }

    public init(unit: String, status: Status, reason: String?) {
        self.unit = unit
        self.status = status
        self.reason = reason
        cases = []
    }

    public func encode(to encoder: Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(unit, forKey: .unit)
        try container.encode(status, forKey: .status)
        try container.encode(reason, forKey: .reason)
        try container.encode(cases, forKey: .cases)
        try container.encode(jpeg, forKey: .jpeg)
        try container.encode(timing, forKey: .timing)
        try container.encode(computePlan, forKey: .computePlan)
        try container.encode(specialization, forKey: .specialization)
    }
}

/// The report on disk, written before and after each unit. A failure of the Neural Engine can end the process, and an
/// iPhone gives an app no second one: the unit that was running is then found here as crashed, and the next start of
/// the app goes on with the unit after it.
public struct Journal {
    public let url: URL
    public private(set) var report: Report

    /// Goes on with the report of this kit that lies there unfinished; else begins a new one.
    public init(url: URL, folder: KitFolder, units: [String]) {
        self.url = url
        report = Report(folder: folder)
        guard let content = try? Data(contentsOf: url),
            let old = try? JSONDecoder().decode(Report.self, from: content),
            old.kitSHA256 == folder.sha256,
            old.packageSHA256 == folder.kit.package.sha256
        else { return }
        let done = Set(old.units.map(\.unit))
        if !done.isSuperset(of: units) {
            report.units = old.units
        }
    }

    public func has(_ unit: String) -> Bool {
        report.units.contains { $0.unit == unit }
    }

    /// What stands in the report if nothing comes after it.
    public mutating func begin(_ unit: String) throws {
        let reason = "the process ended while this unit ran"
        report.units.append(UnitReport(unit: unit, status: .crashed, reason: reason))
        try write()
    }

    public mutating func finish(_ result: UnitReport) throws {
        report.units.removeAll { $0.unit == result.unit }
        report.units.append(result)
        try write()
    }

    private func write() throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        encoder.dataEncodingStrategy = .base64
        try encoder.encode(report).write(to: url, options: .atomic)
    }
}
