import Dispatch
import Foundation

private let window = 10
private let stableWithin = 0.05

/// Nanoseconds of each run, after warming up until two windows of ten agree. `once` holds its own clock.
func measure(_ plan: Kit.Plan, _ once: () async throws -> Int) async throws -> TimingReport {
    let before = ThisDevice.thermalState
    let warmUpRuns = try await warmUp(plan.warmUpSeconds, once)
    var samples: [Int] = []
    let end = DispatchTime.now().uptimeNanoseconds + UInt64(plan.measureSeconds * 1e9)
    while samples.count < plan.leastSamples || DispatchTime.now().uptimeNanoseconds < end {
        samples.append(try await once())
    }
    return TimingReport(
        samples: samples,
        warmUpRuns: warmUpRuns,
        thermalBefore: before,
        thermalAfter: ThisDevice.thermalState
    )
}

private func warmUp(_ seconds: Double, _ once: () async throws -> Int) async throws -> Int {
    let end = DispatchTime.now().uptimeNanoseconds + UInt64(seconds * 1e9)
    var previous = Double.infinity
    var runs = 0
    while true {
        var samples: [Int] = []
        for _ in 0..<window {
            samples.append(try await once())
        }
        runs += window
        let middle = median(samples)
        if abs(middle - previous) <= stableWithin * middle || DispatchTime.now().uptimeNanoseconds > end {
            return runs
        }
        previous = middle
    }
}

/// Nanoseconds since `start`, of the clock that `DispatchTime` reads.
func nanoseconds(since start: UInt64) -> Int {
    max(1, Int(DispatchTime.now().uptimeNanoseconds - start))
}

func median(_ samples: [Int]) -> Double {
    guard !samples.isEmpty else { return .nan }
    let sorted = samples.sorted()
    let upper = sorted.count / 2
    let lower = (sorted.count - 1) / 2
    return (Double(sorted[lower]) + Double(sorted[upper])) / 2
}
