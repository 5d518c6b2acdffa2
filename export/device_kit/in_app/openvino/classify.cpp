// Classify photos with OpenVINO: classify SHIP_FOLDER PHOTO.ppm...
//
// A decoder gives rows of R, G, B bytes, top to bottom, upright; here it is a reader of binary PPM.
// Build: c++ -std=c++17 classify.cpp -lopenvino

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include <openvino/openvino.hpp>

struct Photo {
    size_t height = 0, width = 0;
    std::vector<uint8_t> rgb;
};

static Photo read_ppm(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string magic;
    Photo photo;
    int most = 0;
    if (!(file >> magic >> photo.width >> photo.height >> most) || magic != "P6" || most != 255)
        throw std::runtime_error(path + " is not a binary PPM of 8 bits");
    file.get();
    photo.rgb.resize(photo.height * photo.width * 3);
    if (!file.read(reinterpret_cast<char*>(photo.rgb.data()), static_cast<std::streamsize>(photo.rgb.size())))
        throw std::runtime_error(path + " is cut off");
    return photo;
}

class Classifier {
public:
    explicit Classifier(const std::string& ship) {
        // The settings that the file was verified with: ship/runtime-settings.json.
        const ov::AnyMap settings = {@SETTINGS@};
        request = ov::Core().compile_model(ship + "/@FILE@", "CPU", settings).create_infer_request();
    }

    std::vector<std::pair<int64_t, float>> best(const Photo& photo) {
        ov::Tensor image(ov::element::u8, {1, photo.height, photo.width, 3});
        std::copy(photo.rgb.begin(), photo.rgb.end(), image.data<uint8_t>());
        request.set_input_tensor(image);
        request.infer();
        return answers();
    }

private:
    ov::InferRequest request;

    bool gives(const std::string& name) {
        for (const auto& output : request.get_compiled_model().outputs())
            if (output.get_names().count(name)) return true;
        return false;
    }

    std::vector<std::pair<int64_t, float>> answers() {
        std::vector<std::pair<int64_t, float>> found;
        if (gives("classes")) {
            const auto classes = request.get_tensor("classes"), scores = request.get_tensor("scores");
            for (size_t i = 0; i < classes.get_size(); ++i)
                found.emplace_back(classes.data<int64_t>()[i], scores.data<float>()[i]);
            return found;
        }
        const auto values = request.get_tensor(gives("probabilities") ? "probabilities" : "logits");
        for (size_t i = 0; i < values.get_size(); ++i) found.emplace_back(i, values.data<float>()[i]);
        const auto kept = std::min<size_t>(5, found.size());
        std::partial_sort(found.begin(), found.begin() + static_cast<long>(kept), found.end(),
                          [](const auto& one, const auto& other) { return one.second > other.second; });
        found.resize(kept);
        return found;
    }
};

int main(int count, char** arguments) {
    try {
        if (count < 3) throw std::runtime_error("usage: classify SHIP_FOLDER PHOTO.ppm...");
        Classifier classifier(arguments[1]);
        for (int i = 2; i < count; ++i) {
            std::printf("%s", arguments[i]);
            for (const auto& [index, value] : classifier.best(read_ppm(arguments[i])))
                std::printf(" %lld:%.4f", static_cast<long long>(index), static_cast<double>(value));
            std::printf("\n");
        }
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
