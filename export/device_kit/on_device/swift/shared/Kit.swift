import CryptoKit
import Foundation

/// What went wrong before there was anything to compare, in words for the report.
public struct KitError: Error, LocalizedError {
    public let message: String

    public init(_ message: String) {
        self.message = message
    }

    public var errorDescription: String? { message }
}

/// `data/kit.json`: the package, the inputs, the budgets. Paths are relative to the data folder.
public struct Kit: Decodable {
    public struct Package: Decodable {
        public let path: String
        public let name: String
        public let sha256: String
    }

    public struct Model: Decodable {
        public let name: String
        public let classes: Int
        /// The package is a classifier: it gives a label and probabilities beside the logits.
        public let labels: Bool
    }

    public struct Input: Decodable {
        public let name: String
        /// `image`: 8-bit R G B, (H, W, 3). `tensor`: normalized float32, (1, 3, H, W).
        public let kind: String
        public let shape: [Int]
    }

    public struct Output: Decodable {
        public let name: String
    }

    /// A number for a square, [height, width] for a rectangle; pixels.
    public struct Size: Decodable {
        public let height: Int
        public let width: Int

        public init(from decoder: Decoder) throws {
            let container = try decoder.singleValueContainer()
            let sides: [Int]
            if let side = try? container.decode(Int.self) {
                sides = [side, side]
            } else {
                sides = try container.decode([Int].self)
            }
            guard sides.count == 2 else {
                throw DecodingError.dataCorruptedError(in: container, debugDescription: "\(sides) is no image size")
            }
            height = sides[0]
            width = sides[1]
        }
    }

    public struct Preprocessing: Decodable {
        public let imageSize: Size
        public let resize: Size
        public let crop: String

        enum CodingKeys: String, CodingKey {
            case imageSize = "image_size"
            case resize
            case crop
        }
    }

    public struct Case: Decodable {
        public let name: String
        public let kind: String
        public let input: String
        /// Nil for a probe, whose right answer is not in the kit.
        public let logits: String?
        /// What the error is relative to; nil for a probe.
        public let scale: Double?
    }

    public struct Plan: Decodable {
        public let warmUpSeconds: Double
        public let measureSeconds: Double
        public let leastSamples: Int

        enum CodingKeys: String, CodingKey {
            case warmUpSeconds = "warm_up_s"
            case measureSeconds = "measure_s"
            case leastSamples = "least_samples"
        }
    }

    public struct Picture: Decodable {
        public let path: String
        public let logits: String
        /// What the error is relative to.
        public let scale: Double
        /// By compute unit, a relative error.
        public let budgets: [String: Double]
    }

    public let version: String
    public let package: Package
    public let model: Model
    public let input: Input
    public let output: Output
    public let preprocessing: Preprocessing
    public let cases: [Case]
    /// By compute unit and kind of input, a relative error.
    public let budgets: [String: [String: Double]]
    public let timing: Plan
    public let jpeg: Picture?
    public let files: [String: String]

    enum CodingKeys: String, CodingKey {
        case version = "vit_export"
        case package
        case model
        case input
        case output
        case preprocessing
        case cases
        case budgets
        case timing
        case jpeg
        case files
    }
}

/// The data folder, opened.
public struct KitFolder {
    public let data: URL
    public let kit: Kit
    /// SHA-256 of kit.json, to which the report is bound.
    public let sha256: String

    /// The data that the package was built with.
    public static func bundled() throws -> KitFolder {
        guard let url = Bundle.module.url(forResource: "data", withExtension: nil) else {
            throw KitError("the data folder is not in the bundle: build from the kit's own Package.swift")
        }
        return try KitFolder(data: url)
    }

    public init(data: URL) throws {
        let content = try Data(contentsOf: data.appendingPathComponent("kit.json"))
        self.data = data
        self.kit = try JSONDecoder().decode(Kit.self, from: content)
        self.sha256 = hexSHA256(content)
    }

    public var packageURL: URL {
        data.appendingPathComponent(kit.package.path, isDirectory: true)
    }

    public func bytes(_ path: String) throws -> Data {
        try Data(contentsOf: data.appendingPathComponent(path))
    }

    /// Little-endian float32, as every Apple device holds them.
    public func floats(_ path: String) throws -> [Float] {
        decodeFloats(try bytes(path))
    }

    /// The files that are not those of the kit as it was written.
    public func changedFiles() throws -> [String] {
        var changed: [String] = []
        if try packageSHA256(packageURL) != kit.package.sha256 {
            changed.append(kit.package.path)
        }
        for (path, expected) in kit.files.sorted(by: { $0.key < $1.key }) {
            let content = try? bytes(path)
            if content.map(hexSHA256) != expected {
                changed.append(path)
            }
        }
        return changed
    }
}

func hexSHA256(_ content: Data) -> String {
    SHA256.hash(data: content).map { String(format: "%02x", $0) }.joined()
}

/// Over the names and digests of the files, in order of name, as vit-export computes it.
func packageSHA256(_ package: URL) throws -> String {
    let manager = FileManager.default
    var names: [String] = []
    for name in try manager.subpathsOfDirectory(atPath: package.path) {
        var isFolder: ObjCBool = false
        let path = package.appendingPathComponent(name).path
        let exists = manager.fileExists(atPath: path, isDirectory: &isFolder)
        // The Finder's own files are no part of a package.
        if exists && !isFolder.boolValue && (name as NSString).lastPathComponent != ".DS_Store" {
            names.append(name)
        }
    }
    names.sort { first, second in
        first.components(separatedBy: "/").lexicographicallyPrecedes(second.components(separatedBy: "/"))
    }
    var total = SHA256()
    for name in names {
        let content = try Data(contentsOf: package.appendingPathComponent(name))
        total.update(data: Data("\(name)\u{0}\(hexSHA256(content))\n".utf8))
    }
    return total.finalize().map { String(format: "%02x", $0) }.joined()
}

func decodeFloats(_ content: Data) -> [Float] {
    let count = content.count / MemoryLayout<Float>.size
    var values = [Float](repeating: 0, count: count)
    _ = values.withUnsafeMutableBytes { content.copyBytes(to: $0) }
    return values
}

func encodeFloats(_ values: [Float]) -> Data {
    values.withUnsafeBytes { Data($0) }
}
