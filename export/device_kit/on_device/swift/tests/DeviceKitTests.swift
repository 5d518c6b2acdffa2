import XCTest

@testable import DeviceKit

final class DeviceKitTests: XCTestCase {
    /// The check itself. Runs on a Mac (`swift test`) and in an app's test target on an iPhone.
    func testTheArtifactOnEveryComputeUnit() async throws {
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
