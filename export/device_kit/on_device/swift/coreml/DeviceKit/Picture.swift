import CoreGraphics
import CoreML
import Foundation
import ImageIO
import Vision

/// The part of the picture that the model is meant to see, in pixels from the top left.
///
/// The contract is: resize the picture until it just covers `resize`, then cut `imageSize` out of the center. Of a
/// square input that is the centered square of imageSize / resize of the short side, scaled to fill. Vision's
/// `.centerCrop` takes the whole short side, `.scaleFill` the whole picture: neither is the contract.
func seenPart(width: Int, height: Int, preprocessing: Kit.Preprocessing) -> CGRect {
    let cut = preprocessing.imageSize
    var scaleX = Double(width) / Double(preprocessing.resize.width)
    var scaleY = Double(height) / Double(preprocessing.resize.height)
    if preprocessing.crop == "center" {
        scaleX = min(scaleX, scaleY)
        scaleY = scaleX
    }
    let w = (Double(cut.width) * scaleX).rounded()
    let h = (Double(cut.height) * scaleY).rounded()
    return CGRect(x: ((Double(width) - w) / 2).rounded(), y: ((Double(height) - h) / 2).rounded(), width: w, height: h)
}

/// JPEG to logits, as an app does it: decoded and resized by the system, not by us.
struct PictureCheck {
    let folder: KitFolder
    let loaded: LoadedModel
    let unit: ComputeUnit

    /// Nil if the kit has no picture.
    func run() throws -> PictureReport? {
        guard let picture = folder.kit.jpeg else { return nil }
        let image = try seenImage(folder.data.appendingPathComponent(picture.path))
        // Vision gives a classifier's labels only, and no logits: then Core ML's own way from an image is taken.
        let classifier = folder.kit.model.labels
        let logits = try classifier ? throughFeatureValue(image) : throughVision(image)
        let error = relativeError(logits, try folder.floats(picture.logits), scale: picture.scale)
        let budget = picture.budgets[unit.rawValue] ?? -1
        return PictureReport(
            status: error <= budget ? .passed : .rejected,
            route: classifier ? "feature_value" : "vision",
            logits: encodeFloats(logits)
        )
    }

    private func seenImage(_ url: URL) throws -> CGImage {
        guard let source = CGImageSourceCreateWithURL(url as CFURL, nil),
            let image = CGImageSourceCreateImageAtIndex(source, 0, nil)
        else {
            throw KitError("\(url.lastPathComponent) cannot be decoded")
        }
        let part = seenPart(width: image.width, height: image.height, preprocessing: folder.kit.preprocessing)
        guard let cropped = image.cropping(to: part) else {
            throw KitError("\(url.lastPathComponent) cannot be cropped to \(part)")
        }
        return cropped
    }

    private func throughVision(_ image: CGImage) throws -> [Float] {
        let request = VNCoreMLRequest(model: try VNCoreMLModel(for: loaded.model))
        request.imageCropAndScaleOption = .scaleFill
        try VNImageRequestHandler(cgImage: image, options: [:]).perform([request])
        let observations = (request.results ?? []).compactMap { $0 as? VNCoreMLFeatureValueObservation }
        let named = observations.first { $0.featureName == folder.kit.output.name }
        guard let array = named?.featureValue.multiArrayValue else {
            throw KitError("Vision returned no '\(folder.kit.output.name)'")
        }
        return try classLogits(array, classes: folder.kit.model.classes)
    }

    private func throughFeatureValue(_ image: CGImage) throws -> [Float] {
        let name = folder.kit.input.name
        guard let constraint = loaded.model.modelDescription.inputDescriptionsByName[name]?.imageConstraint else {
            throw KitError("the package's input '\(name)' is no image")
        }
        let options: [MLFeatureValue.ImageOption: Any] = [
            .cropAndScale: VNImageCropAndScaleOption.scaleFill.rawValue
        ]
        let value = try MLFeatureValue(cgImage: image, constraint: constraint, options: options)
        return try loaded.logits(try MLDictionaryFeatureProvider(dictionary: [name: value]))
    }
}
