// Classify a photo with ONNX Runtime on Android: implementation("com.microsoft.onnxruntime:onnxruntime-android:1.22.0")
//
// @FILE@ goes into src/main/assets. The bitmap has to be upright: ImageDecoder turns it, BitmapFactory does not.

import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import android.content.Context
import android.graphics.Bitmap
import java.nio.ByteBuffer
import java.nio.ByteOrder

class Classifier(context: Context) : AutoCloseable {
    private val environment = OrtEnvironment.getEnvironment()
    private val session: OrtSession =
        environment.createSession(context.assets.open("@FILE@").use { it.readBytes() })

    /** Class to score, best first. */
    fun classify(photo: Bitmap): List<Pair<Int, Float>> {
        val pixels = IntArray(photo.width * photo.height)
        photo.getPixels(pixels, 0, photo.width, 0, 0, photo.width, photo.height)
        val bytes = ByteBuffer.allocateDirect(pixels.size * 3).order(ByteOrder.nativeOrder())
        for (pixel in pixels) {
            bytes.put((pixel shr 16).toByte()).put((pixel shr 8).toByte()).put(pixel.toByte())
        }
        bytes.rewind()
        val shape = longArrayOf(1, photo.height.toLong(), photo.width.toLong(), 3)
        OnnxTensor.createTensor(environment, bytes, shape, OnnxJavaType.UINT8).use { image ->
            session.run(mapOf("image" to image)).use { found ->
                if (found["classes"].isPresent) {
                    @Suppress("UNCHECKED_CAST")
                    val classes = (found["classes"].get().value as Array<LongArray>)[0]
                    @Suppress("UNCHECKED_CAST")
                    val scores = (found["scores"].get().value as Array<FloatArray>)[0]
                    return classes.map(Long::toInt).zip(scores.toList())
                }
                val name = if (found["probabilities"].isPresent) "probabilities" else "logits"
                @Suppress("UNCHECKED_CAST")
                val values = (found[name].get().value as Array<FloatArray>)[0]
                return values.withIndex().sortedByDescending { it.value }.take(5).map { it.index to it.value }
            }
        }
    }

    override fun close() = session.close()
}
