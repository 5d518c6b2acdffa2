import CoreML
import Dispatch
import Foundation

private let window = 10
private let stableWithin = 0.05

/// Nanoseconds of each run, after warming up until two windows of ten agree.
func measure(_ plan: Kit.Plan, _ run: () throws -> Void) throws -> TimingReport {
    let before = ThisDevice.thermalState
    let warmUpRuns = try warmUp(plan.warmUpSeconds, run)
    var samples: [Int] = []
    let end = DispatchTime.now().uptimeNanoseconds + UInt64(plan.measureSeconds * 1e9)
    while samples.count < plan.leastSamples || DispatchTime.now().uptimeNanoseconds < end {
        samples.append(try once(run))
    }
    return TimingReport(
        samples: samples,
        warmUpRuns: warmUpRuns,
        thermalBefore: before,
        thermalAfter: ThisDevice.thermalState
    )
}

private func warmUp(_ seconds: Double, _ run: () throws -> Void) throws -> Int {
    let end = DispatchTime.now().uptimeNanoseconds + UInt64(seconds * 1e9)
    var previous = Double.infinity
    var runs = 0
    while true {
        var samples: [Int] = []
        for _ in 0..<window {
            samples.append(try once(run))
        }
        runs += window
        let middle = median(samples)
        if abs(middle - previous) <= stableWithin * middle || DispatchTime.now().uptimeNanoseconds > end {
            return runs
        }
        previous = middle
    }
}

private func once(_ run: () throws -> Void) throws -> Int {
    let start = DispatchTime.now().uptimeNanoseconds
    try autoreleasepool { try run() }
    return max(1, Int(DispatchTime.now().uptimeNanoseconds - start))
}

func median(_ samples: [Int]) -> Double {
    guard !samples.isEmpty else { return .nan }
    let sorted = samples.sorted()
    let upper = sorted.count / 2
    let lower = (sorted.count - 1) / 2
    return (Double(sorted[lower]) + Double(sorted[upper])) / 2
}
