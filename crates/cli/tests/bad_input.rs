//! Bad input of every kind gets a message that names it, or a reported skip: never a panic.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use image::{DynamicImage, ImageBuffer, Luma, LumaA, Rgb, Rgba};
use support::{dp2o, drawing, fail, photographs, stage, succeed, text};

fn save(image: impl Into<DynamicImage>, path: &Path) {
    image.into().save(path).unwrap();
}

/// Good photographs between bad ones: the bad are named and skipped, the good are used.
#[test]
fn degrade_skips_bad_photographs_by_name() {
    let photos = photographs(4);
    let at = |name: &str| photos.path().join(name);
    let whole = fs::read(at("photo0.png")).unwrap();
    fs::write(at("truncated.png"), &whole[..whole.len() / 2]).unwrap();
    fs::write(at("empty.jpg"), b"").unwrap();
    fs::write(at("text.png"), b"not a picture").unwrap();
    save(drawing(20, 20, 1), &at("small.png"));
    // Usable after a change.
    save(
        ImageBuffer::from_fn(100, 100, |x, y| Luma([(x * 650 + y * 3) as u16])),
        &at("grey16.png"),
    );
    save(
        ImageBuffer::from_fn(100, 100, |x, y| LumaA([(x * 2) as u8, (y * 2) as u8])),
        &at("greyalpha.png"),
    );
    save(
        ImageBuffer::from_fn(100, 100, |x, y| Rgba([x as u8 * 2, y as u8, 90, x as u8])),
        &at("alpha.png"),
    );
    save(
        ImageBuffer::from_fn(100, 100, |x, y| Rgb([x as u16 * 600, y as u16 * 600, 9])),
        &at("rgb16.tiff"),
    );
    let out = tempfile::tempdir().unwrap();
    let said = text(&succeed(
        stage("degrade", out.path()).args(["--set", "degrade.min_detail=0"]).arg(photos.path()),
    ));
    for name in ["truncated.png", "empty.jpg", "text.png", "small.png"] {
        assert!(said.lines().any(|l| l.contains("skipped") && l.contains(name)), "{name}:\n{said}");
    }
    let rows: Vec<dp2o_schema::Crop> =
        dp2o_schema::table::read(&out.path().join("data/manifest.parquet")).unwrap();
    for name in ["photo0", "grey16", "greyalpha", "alpha.png", "rgb16"] {
        assert!(rows.iter().any(|row| row.photo.contains(name)), "{name}");
    }
}

#[test]
fn nothing_usable_is_an_error() {
    let empty = tempfile::tempdir().unwrap();
    let out = tempfile::tempdir().unwrap();
    let said = fail(stage("degrade", out.path()).arg(empty.path()));
    assert!(said.contains("no picture"), "{said}");
    let said = fail(stage("degrade", out.path()).arg(empty.path().join("missing")));
    assert!(said.contains("missing"), "{said}");
    let said = fail(&mut stage("degrade", out.path()));
    assert!(said.contains("no pictures given"), "{said}");
}

#[test]
fn a_huge_picture_is_refused_before_it_is_decoded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("huge.png");
    save(ImageBuffer::from_pixel(3000, 2000, Luma([7_u8])), &path);
    let said = fail(dp2o().args(["upscale", "--max-megapixels", "1"]).arg(&path));
    assert!(said.contains("huge.png") && said.contains("megapixels"), "{said}");
}

#[test]
fn upscale_keeps_alpha_and_orientation_and_takes_any_size() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    save(
        ImageBuffer::from_fn(33, 21, |x, y| Rgba([x as u8 * 7, y as u8 * 9, 90, x as u8 * 7])),
        &at("odd.png"),
    );
    save(ImageBuffer::from_fn(24, 24, |x, _| Luma([(x * 10) as u8])), &at("grey.png"));
    let mut command = dp2o();
    command.args(["upscale", "--set", "generate.steps=2"]);
    succeed(command.arg(at("odd.png")).arg(at("grey.png")));
    let odd = image::open(at("odd-x4.png")).unwrap();
    assert_eq!((odd.width(), odd.height(), odd.color().has_alpha()), (132, 84, true));
    let alpha = |x: u32| odd.to_rgba8().get_pixel(x, 40)[3];
    assert!(alpha(5) < alpha(60) && alpha(60) < alpha(125), "opacity follows the input");
    assert_eq!(image::open(at("grey-x4.png")).unwrap().width(), 96);

    // One bad picture among good ones: the others are finished, the exit code says so.
    fs::write(at("bad.png"), b"x").unwrap();
    let out = folder.path().join("out");
    let mut command = dp2o();
    command.args(["upscale", "--set", "generate.steps=2"]).arg("--out").arg(&out);
    let said = fail(command.arg(at("bad.png")).arg(at("grey.png")));
    assert!(said.contains("bad.png") && out.join("grey.png").exists(), "{said}");
}

#[test]
fn score_reports_what_failed_and_what_was_left_over() {
    let (hr, sr) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for name in ["a", "b", "c", "only-reference"] {
        save(drawing(64, 64, 1), &hr.path().join(format!("{name}.png")));
    }
    for name in ["a", "only-picture"] {
        save(drawing(64, 64, 2), &sr.path().join(format!("{name}.png")));
    }
    save(drawing(60, 64, 2), &sr.path().join("b.png"));
    fs::write(sr.path().join("c.png"), b"broken").unwrap();
    let mut command = dp2o();
    command.args(["score", "--metrics", "psnr-y", "--format", "jsonl", "--reference"]);
    let output = command.arg(hr.path()).arg(sr.path()).output().unwrap();
    let said = text(&output);
    assert!(!output.status.success() && !said.contains("panicked"), "{said}");
    let rows: Vec<serde_json::Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(rows.len(), 3);
    assert!(
        rows[0]["value"].is_number()
            && rows[1]["error"].is_string()
            && rows[2]["error"].is_string()
    );
    assert!(said.contains("only-picture") && said.contains("only-reference"), "{said}");

    let said = fail(dp2o().args(["score", "--metrics", "vmaf"]).arg(sr.path()));
    assert!(said.contains("vmaf") && said.contains("psnr-y"), "{said}");
    let said = fail(dp2o().args(["score", "--metrics", "psnr"]).arg(sr.path()));
    assert!(said.contains("--reference"), "{said}");
    let mut command = dp2o();
    command.args(["score", "--metrics", "fid", "--reference"]).arg(hr.path()).arg(sr.path());
    let said = fail(&mut command);
    assert!(said.contains("pt_inception-2015-12-05-6726825d.pth"), "{said}");
    let said = fail(command.args(["--weights", "fid=nowhere.pth"]));
    assert!(said.contains("nowhere.pth"), "{said}");
}

#[test]
fn pairs_that_do_not_match_are_named() {
    let (lr, hr) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for name in ["a", "b"] {
        save(drawing(32, 32, 1), &lr.path().join(format!("{name}.png")));
    }
    save(drawing(128, 128, 1), &hr.path().join("a.png"));
    save(drawing(128, 128, 1), &hr.path().join("z.png"));
    let out = tempfile::tempdir().unwrap();
    let mut command = stage("degrade", out.path());
    let said = text(&succeed(command.arg("--lr").arg(lr.path()).arg("--hr").arg(hr.path())));
    assert!(said.contains("b.png") && said.contains("z.png"), "{said}");
}

#[test]
fn wrong_and_corrupt_weights_name_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny-sd2");
    let picture = folder.path().join("p.png");
    save(drawing(24, 24, 0), &picture);
    let with = |change: &dyn Fn(&Path)| {
        let model = folder.path().join("model");
        let _ = fs::remove_dir_all(&model);
        assert!(
            Command::new("cp").arg("-r").arg(&embedded).arg(&model).status().unwrap().success()
        );
        change(&model);
        fail(dp2o().arg("upscale").arg(&picture).arg("--model").arg(&model))
    };
    let weights = "unet/diffusion_pytorch_model.safetensors";
    let said = with(&|m| {
        let bytes = fs::read(m.join(weights)).unwrap();
        fs::write(m.join(weights), &bytes[..bytes.len() / 2]).unwrap();
    });
    assert!(said.contains("diffusion_pytorch_model.safetensors"), "{said}");
    let said = with(&|m| fs::write(m.join(weights), b"\x80\x02pickle").unwrap());
    assert!(said.contains("diffusion_pytorch_model.safetensors"), "{said}");
    let said = with(&|m| {
        fs::copy(m.join("vae/diffusion_pytorch_model.safetensors"), m.join(weights)).unwrap();
    });
    assert!(said.contains("conv_in.weight") || said.contains("missing"), "{said}");
    let said = with(&|m| {
        let config = fs::read_to_string(m.join("unet/config.json")).unwrap();
        fs::write(
            m.join("unet/config.json"),
            config.replacen("\"in_channels\": 4", "\"in_channels\": 5", 1),
        )
        .unwrap();
    });
    assert!(said.contains("conv_in.weight"), "{said}");
    let said = with(&|m| fs::remove_file(m.join("scheduler/scheduler_config.json")).unwrap());
    assert!(said.contains("scheduler_config.json"), "{said}");
    let said = fail(dp2o().arg("upscale").arg(&picture).args(["--model", "sdxl"]));
    assert!(said.contains("sdxl") && said.contains("model_index.json"), "{said}");
}

#[test]
fn settings_are_checked() {
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("c.toml");
    fs::write(&file, "[generate]\ncandidats = 3\n").unwrap();
    let said = fail(stage("run", out.path()).arg("--config").arg(&file).args(["--print-config"]));
    assert!(said.contains("candidats") && said.contains("c.toml"), "{said}");
    fs::write(&file, "[generate\n").unwrap();
    let said = fail(stage("run", out.path()).arg("--config").arg(&file).args(["--print-config"]));
    assert!(said.contains("c.toml"), "{said}");
    let said = fail(stage("run", out.path()).args(["--print-config", "--set", "train.stepz=3"]));
    assert!(said.contains("stepz"), "{said}");
    let said = fail(dp2o().args(["upscale", "x.png", "--device", "tpu"]));
    assert!(said.contains("tpu") && said.contains("flex"), "{said}");
}

#[test]
fn scores_of_other_tools_are_checked() {
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("scores.csv");
    let curate = |text: &str| {
        fs::write(&file, text).unwrap();
        let run = tempfile::tempdir().unwrap();
        let mut command = stage("curate", run.path());
        command.args(["--set", "curate.keep=1"]).arg("--scores").arg(&file).output().unwrap()
    };
    let good =
        "group,candidate,metric,value\ng,0,psnr-y,20\ng,1,psnr-y,25\ng,0,piqe,50\ng,1,piqe,30\n";
    assert!(curate(good).status.success(), "{}", text(&curate(good)));
    for (bad, word) in [
        ("group,candidate,metric\ng,0,psnr-y\n", "value"),
        ("group,candidate,metric,value\ng,0,mystery,3\ng,1,mystery,4\n", "mystery"),
        ("group,candidate,metric,value\ng,0,psnr-y,x\n", "scores.csv"),
    ] {
        let output = curate(bad);
        let said = text(&output);
        assert!(
            !output.status.success() && said.contains(word) && !said.contains("panicked"),
            "{said}"
        );
    }
    let output = curate(
        "group,candidate,metric,value\ng,0,psnr-y,NaN\ng,1,psnr-y,20\ng,0,piqe,5\ng,1,piqe,6\n",
    );
    assert!(
        text(&output).contains('g') && !text(&output).contains("panicked"),
        "{}",
        text(&output)
    );
}

/// A limit on file sizes stands for a full disk: writes fail half-way.
#[cfg(unix)]
#[test]
fn a_full_disk_is_said_and_leaves_no_half_file() {
    let photos = photographs(4);
    let out = tempfile::tempdir().unwrap();
    let limited = stage("degrade", out.path());
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 4; exec \"$0\" \"$@\""]);
    command.arg(limited.get_program()).args(limited.get_args()).arg(photos.path());
    for (key, value) in limited.get_envs() {
        command.env(key, value.unwrap());
    }
    let said = fail(&mut command);
    assert!(said.contains("cannot") && said.contains(".png"), "{said}");
    assert!(!out.path().join("data/manifest.parquet").exists());
    // With room, the same command finishes.
    succeed(stage("degrade", out.path()).arg(photos.path()));
}
