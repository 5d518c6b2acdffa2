import CoreGraphics
import CoreVideo
import XCTest

@testable import DeviceKit

final class PictureTests: XCTestCase {
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
}
