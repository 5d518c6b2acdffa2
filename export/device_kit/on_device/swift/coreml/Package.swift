// swift-tools-version:5.7
import PackageDescription

// The library's folder is this one, because resources have to lie below it; its sources are in swift/ alone.
let package = Package(
    name: "DeviceKit",
    platforms: [.iOS(.v15), .macOS(.v12)],
    products: [.library(name: "DeviceKit", targets: ["DeviceKit"])],
    targets: [
        .target(
            name: "DeviceKit",
            path: ".",
            exclude: ["README.md", "check_on_mac.py", "kit_common.py", "kit_mac.py", "swift/Tests"],
            sources: ["swift/Sources/DeviceKit"],
            resources: [.copy("data")]
        ),
        .testTarget(
            name: "DeviceKitTests",
            dependencies: ["DeviceKit"],
            path: "swift/Tests/DeviceKitTests"
        ),
    ]
)
