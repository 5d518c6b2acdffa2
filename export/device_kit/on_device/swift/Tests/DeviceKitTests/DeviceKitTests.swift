import CoreGraphics
import XCTest

@testable import DeviceKit

final class DeviceKitTests: XCTestCase {
    /// The check itself. Runs on a Mac (`swift test`) and in an app's test target on an iPhone.
    func testThePackageOnEveryComputeUnit() async throws {
        let check = DeviceCheck(folder: try KitFolder.bundled())
        let report = try await check.run { print(summary($0)) }
        let attachment = XCTAttachment(contentsOfFile: check.reportURL)
        attachment.name = "device-report.json"
        attachment.lifetime = .keepAlways
        add(attachment)
        print("report: \(check.reportURL.path)")
        for unit in report.units {
            XCTAssertEqual(unit.status, .passed, summary(unit))
            XCTAssertNotEqual(unit.jpeg?.status, .rejected, summary(unit))
        }
    }

    func testTheKitIsAsItWasWritten() throws {
        XCTAssertEqual(try KitFolder.bundled().changedFiles(), [])
    }

    func testRelativeErrorIsOverTheScaleAndKeepsNaN() {
        XCTAssertEqual(relativeError([1, 2, 3], [1, 2, 3], scale: 2), 0)
        // A shift of one in three logits.
        XCTAssertEqual(relativeError([2, 3, 4], [1, 2, 3], scale: 2), 3.0.squareRoot() / 2, accuracy: 1e-12)
        XCTAssertTrue(relativeError([.nan, 2, 3], [1, 2, 3], scale: 2).isNaN)
        XCTAssertTrue(relativeError([1, 2], [1, 2, 3], scale: 2).isNaN)
    }

    func testFloatsGoThereAndBack() {
        XCTAssertEqual(decodeFloats(encodeFloats([1.5, -2, .infinity])), [1.5, -2, .infinity])
    }

    func testThePartThatIsSeen() throws {
        let json = Data(#"{"image_size": 224, "resize": 256, "crop": "center"}"#.utf8)
        let preprocessing = try JSONDecoder().decode(Kit.Preprocessing.self, from: json)
        let part = seenPart(width: 640, height: 512, preprocessing: preprocessing)
        XCTAssertEqual(part, CGRect(x: 96, y: 32, width: 448, height: 448))
    }

    func testThePartThatARectangleSees() throws {
        let json = Data(#"{"image_size": [224, 320], "resize": [256, 365], "crop": "center"}"#.utf8)
        let preprocessing = try JSONDecoder().decode(Kit.Preprocessing.self, from: json)
        let part = seenPart(width: 730, height: 600, preprocessing: preprocessing)
        XCTAssertEqual(part, CGRect(x: 45, y: 76, width: 640, height: 448))
    }

    func testAPixelBufferHasBlueFirst() throws {
        let buffer = try pixelBuffer(Data([10, 20, 30]), shape: [1, 1, 3])
        CVPixelBufferLockBaseAddress(buffer, .readOnly)
        defer { CVPixelBufferUnlockBaseAddress(buffer, .readOnly) }
        let base = try XCTUnwrap(CVPixelBufferGetBaseAddress(buffer)).assumingMemoryBound(to: UInt8.self)
        XCTAssertEqual([base[0], base[1], base[2], base[3]], [30, 20, 10, 255])
    }

    func testAnUnfinishedReportIsGoneOnWith() throws {
        let folder = try KitFolder.bundled()
        let url = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID().uuidString).json")
        defer { try? FileManager.default.removeItem(at: url) }
        var first = Journal(url: url, folder: folder, units: ["CPU_ONLY", "ALL"])
        try first.begin("CPU_ONLY")
        // The process ends here; the next one finds the unit as crashed, and does not run into it again.
        var second = Journal(url: url, folder: folder, units: ["CPU_ONLY", "ALL"])
        XCTAssertEqual(second.report.units.map(\.status), [.crashed])
        XCTAssertFalse(second.has("ALL"))
        try second.finish(UnitReport(unit: "ALL", status: .passed, reason: nil))
        let third = Journal(url: url, folder: folder, units: ["CPU_ONLY", "ALL"])
        XCTAssertTrue(third.report.units.isEmpty)
    }
}
