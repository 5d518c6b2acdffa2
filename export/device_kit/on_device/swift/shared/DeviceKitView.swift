import SwiftUI

/// The whole check as one screen, for an app that has nothing else: see the kit's README.
public struct DeviceKitView: View {
    @State private var lines: [String] = []
    @State private var outcome = "running; leave the app in front"
    @State private var report: URL?

    public init() {}

    public var body: some View {
        VStack(alignment: .leading, spacing: 12) {
            Text(outcome).font(.headline)
            ForEach(lines, id: \.self) { line in
                Text(line).font(.caption)
            }
            if let report = report {
                if #available(iOS 16.0, macOS 13.0, *) {
                    ShareLink(item: report)
                } else {
                    Text(report.path).font(.caption2)
                }
            }
            Spacer()
        }
        .padding()
        .task { await run() }
    }

    private func run() async {
        do {
            let check = DeviceCheck(folder: try KitFolder.bundled())
            // Off the main actor, so that the screen stays alive while the model runs.
            let made = try await Task.detached { try await check.run() }.value
            lines = made.units.map(summary)
            outcome = made.passed ? "every unit passed" : "REJECTED, or not run: see below"
            report = check.reportURL
        } catch {
            outcome = "the check could not run: \(error.localizedDescription)"
        }
        for line in [outcome] + lines {
            print(line)
        }
    }
}
