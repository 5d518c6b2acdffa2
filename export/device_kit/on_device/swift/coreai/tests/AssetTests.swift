import CoreAI
import XCTest

@testable import DeviceKit

final class AssetTests: XCTestCase {
    func testTheOptionsOfAUnit() {
        XCTAssertEqual(ComputeUnit.cpuOnly.options.allowedComputeUnitKinds.count, 1)
        XCTAssertNil(ComputeUnit.anyUnit.options.preferredComputeUnitKind)
        XCTAssertEqual(ComputeUnit.gpu.options.preferredComputeUnitKind, .gpu)
        XCTAssertEqual(ComputeUnit.neuralEngine.options.preferredComputeUnitKind, .neuralEngine)
    }

    func testLogitsAreReadFromAnArray() throws {
        let array = NDArray(scalars: [1.5, -2, 3] as [Float], shape: [1, 3])
        XCTAssertEqual(try classLogits(array, classes: 3), [1.5, -2, 3])
        XCTAssertThrowsError(try classLogits(array, classes: 4))
    }

    func testTheAssetIsCopiedBeforeItIsLoaded() throws {
        let folder = try KitFolder.bundled()
        let copy = try prepare(folder)
        defer { try? FileManager.default.removeItem(at: copy) }
        XCTAssertEqual(try packageSHA256(copy), folder.kit.package.sha256)
        XCTAssertEqual(copy.pathExtension, "aimodel")
    }
}
