//! Resize.

use super::*;

fn scaled(what: &str, attributes: &str, x: &[usize], scales: &[f32]) -> Case {
    case("Resize", what, format!("y = Resize<{attributes}>(x, , scales)"))
        .act("x", x)
        .singles("scales", scales)
        .single(NO_F64)
        .polynomial()
}

fn sized(what: &str, attributes: &str, x: &[usize], sizes: &[i64]) -> Case {
    let nodes =
        format!("n = Shape(x); b = Slice(n, zero, one); z = Concat<axis=0>(b, s); y = Resize<{attributes}>(x, , , z)");
    case("Resize", what, nodes)
        .act("x", x)
        .ints("s", sizes)
        .ints("zero", &[0])
        .ints("one", &[1])
        .single(NO_F64)
        .polynomial()
}

fn cropped(what: &str, attributes: &str, x: &[usize], region: &[f32], scales: &[f32]) -> Case {
    let attributes = format!("coordinate_transformation_mode=\"tf_crop_and_resize\",{attributes}");
    case("Resize", what, format!("y = Resize<{attributes}>(x, region, scales)"))
        .act("x", x)
        .singles("region", region)
        .singles("scales", scales)
        .single(NO_F64)
        .polynomial()
}

pub fn cases() -> Vec<Case> {
    let coordinates = ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"];
    let mut cases = Vec::new();
    for place in coordinates {
        let attributes = |mode: &str| format!("mode=\"{mode}\",coordinate_transformation_mode=\"{place}\"");
        let opsets: &[i64] = if place == "half_pixel_symmetric" { &[19] } else { &[17, 19] };
        for mode in ["nearest", "linear", "cubic"] {
            let up = scaled(&format!("{mode}, {place}, larger"), &attributes(mode), &[2, 3, 4], &[1.0, 1.0, 2.0, 1.5]);
            let down =
                scaled(&format!("{mode}, {place}, smaller"), &attributes(mode), &[2, 6, 7], &[1.0, 1.0, 0.5, 0.7]);
            let down = if place == "align_corners" { down.not_in_tract("it takes other corners") } else { down };
            let sizes = sized(&format!("{mode}, {place}, sizes"), &attributes(mode), &[2, 5, 4], &[2, 3, 7]);
            cases.extend([up, down, sizes].map(|case| case.opsets(opsets)));
        }
        let one = sized(&format!("linear, {place}, one place"), &attributes("linear"), &[1, 4, 5], &[1, 1, 2]);
        cases.push(one.opsets(opsets));
    }
    for rounding in ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"] {
        let attributes = format!("mode=\"nearest\",nearest_mode=\"{rounding}\"");
        cases.push(scaled(&format!("nearest, {rounding}"), &attributes, &[1, 4, 6], &[1.0, 1.0, 1.75, 0.5]));
        let attributes = format!("{attributes},coordinate_transformation_mode=\"asymmetric\"");
        cases.push(scaled(
            &format!("nearest, {rounding}, asymmetric"),
            &attributes,
            &[1, 4, 6],
            &[1.0, 1.0, 2.0, 0.75],
        ));
    }
    for mode in ["linear", "cubic"] {
        for outside in [0, 1] {
            let attributes = format!("mode=\"{mode}\",antialias=1,exclude_outside={outside}");
            let what = |size: &str| format!("{mode}, antialias, {size}, exclude_outside {outside}");
            cases.push(scaled(&what("smaller"), &attributes, &[2, 7, 8], &[1.0, 1.0, 0.4, 0.6]).opsets(&[18, 19]));
            cases.push(scaled(&what("larger"), &attributes, &[2, 4, 3], &[1.0, 1.0, 1.5, 2.0]).opsets(&[18]));
            cases.push(sized(&what("sizes"), &attributes, &[1, 7, 8], &[1, 3, 5]).opsets(&[18]));
        }
    }
    let linear = "mode=\"linear\"";
    cases.extend([
        scaled("nearest, default, twice as large", "mode=\"nearest\"", &[2, 3, 4], &[1.0, 1.0, 2.0, 2.0])
            .opsets(ALL_BANDS),
        scaled(
            "cubic, exclude_outside",
            "mode=\"cubic\",exclude_outside=1,cubic_coeff_a=-0.5",
            &[1, 5, 4],
            &[1.0, 1.0, 1.5, 0.8],
        ),
        scaled("linear, one axis", linear, &[2, 5], &[1.0, 1.0, 1.75]),
        scaled("linear, three axes", linear, &[1, 2, 3, 2], &[1.0, 1.0, 2.0, 1.5, 2.0]),
        scaled("nearest, channels too", "mode=\"nearest\"", &[2, 3], &[1.0, 2.0, 1.5]),
        scaled("linear, channels last", linear, &[3, 4, 2], &[1.0, 2.0, 1.5, 1.0]),
        scaled("nearest, axes given", "mode=\"nearest\",axes=[-1,2]", &[2, 3, 4], &[2.0, 1.5]).opsets(&[18, 21]),
        scaled("linear, axes given", "mode=\"linear\",axes=[2,3]", &[2, 3, 4], &[2.0, 1.5]).opsets(&[18, 21]),
        case(
            "Resize",
            "aspect ratio kept, not larger",
            "y = Resize<mode=\"linear\",keep_aspect_ratio_policy=\"not_larger\",axes=[2,3]>(x, , , s)",
        )
        .act("x", &[1, 4, 6])
        .ints("s", &[7, 8])
        .opsets(&[18])
        .single(NO_F64)
        .polynomial(),
        case(
            "Resize",
            "aspect ratio kept, not smaller",
            "y = Resize<mode=\"nearest\",keep_aspect_ratio_policy=\"not_smaller\",axes=[2,3]>(x, , , s)",
        )
        .act("x", &[1, 4, 6])
        .ints("s", &[7, 8])
        .opsets(&[18])
        .single(NO_F64)
        .polynomial(),
        cropped(
            "linear, cropped",
            linear,
            &[2, 5, 6],
            &[0.0, 0.0, 0.2, 0.1, 1.0, 1.0, 0.7, 0.9],
            &[1.0, 1.0, 0.8, 1.5],
        ),
        cropped(
            "linear, cropped beyond the end",
            linear,
            &[1, 5, 6],
            &[0.0, 0.0, -0.3, 0.1, 1.0, 1.0, 0.7, 1.4],
            &[1.0, 1.0, 1.2, 1.5],
        ),
        cropped(
            "nearest, cropped",
            "mode=\"nearest\"",
            &[1, 5, 6],
            &[0.0, 0.0, 0.2, 0.1, 1.0, 1.0, 0.7, 0.9],
            &[1.0, 1.0, 0.8, 1.5],
        ),
        cropped(
            "nearest, cropped to one place",
            "mode=\"nearest\"",
            &[1, 3, 5],
            &[0.0, 0.0, 0.2, 0.1, 1.0, 1.0, 0.7, 0.9],
            &[1.0, 1.0, 0.4, 1.5],
        )
        .not_in_tract("it takes another place for a single one"),
        cropped(
            "linear, an axis of scale 1 is not cropped",
            linear,
            &[1, 5, 6],
            &[0.0, 0.0, 0.2, 0.1, 1.0, 1.0, 0.7, 0.9],
            &[1.0, 1.0, 0.8, 1.0],
        )
        .not_in_tract("it crops every axis"),
        cropped(
            "cubic, cropped",
            "mode=\"cubic\"",
            &[1, 5, 6],
            &[0.0, 0.0, 0.2, 0.1, 1.0, 1.0, 0.7, 0.9],
            &[1.0, 1.0, 0.8, 1.5],
        ),
    ]);
    cases
}
