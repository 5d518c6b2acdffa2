// swift-tools-version:5.9
import PackageDescription

// The library's folder is this one, because resources have to lie below it; its sources are in swift/ alone.
let package = Package(
    name: "DeviceKit",
    platforms: [.iOS("27.0"), .macOS("27.0")],
    products: [
        .library(name: "DeviceKit", targets: ["DeviceKit"]),
        .executable(name: "device-check", targets: ["device-check"]),
    ],
    targets: [
        .target(
            name: "DeviceKit",
            path: ".",
            exclude: [
                "README.md", "check_coreai_on_mac.py", "kit_common.py", "kit_mac.py", "swift/Tests",
                "swift/Sources/device-check",
            ],
            sources: ["swift/Sources/DeviceKit"],
            resources: [.copy("data")]
        ),
        .executableTarget(
            name: "device-check",
            dependencies: ["DeviceKit"],
            path: "swift/Sources/device-check"
        ),
        .testTarget(
            name: "DeviceKitTests",
            dependencies: ["DeviceKit"],
            path: "swift/Tests/DeviceKitTests"
        ),
    ]
)
