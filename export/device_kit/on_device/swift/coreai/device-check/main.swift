import DeviceKit
import Foundation

// The check on a Mac's command line: swift run -c release device-check [REPORT]

let place = CommandLine.arguments.dropFirst().first.map { URL(fileURLWithPath: $0) }
let check = DeviceCheck(folder: try KitFolder.bundled(), reportURL: place ?? DeviceCheck.defaultURL)
let report = try await check.run { print(summary($0)) }
print("report: \(check.reportURL.path)")
exit(report.passed ? 0 : 1)
